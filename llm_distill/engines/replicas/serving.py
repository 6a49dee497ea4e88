"""What a replica does: one engine over the requests that are put into its queue, as they come."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, TypeVar

from llm_distill.engines.base import Completion, Engine, Request, Score, ScoreRequest
from llm_distill.errors import LLMDistillError

Asked = TypeVar("Asked", Request, ScoreRequest)
Answer = Completion | Score

PAUSE = 0.05
"""Seconds without a request after which an engine finishes those that it has."""
STOP = None
"""Put into a replica's queue after the last request."""


class Serving:
    """An engine in a thread of its own.

    Requests go in by `give`; `take` waits until there are answers and gives all of them. Where the
    engine fails, `take` raises that error once what was answered before it has been given.
    """

    def __init__(self, open_engine: Callable[[], Engine]) -> None:
        self._open = open_engine
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._is_open = threading.Event()
        self._failed: BaseException | None = None
        threading.Thread(target=self._serve, name="replica", daemon=True).start()

    def ready(self) -> None:
        """Wait until the engine is open.

        Raises:
            Exception: it cannot be opened.
        """
        self._is_open.wait()
        if self._failed is not None:
            raise _tellable(self._failed)

    def give(self, requests: Iterable[Request | ScoreRequest]) -> None:
        for request in requests:
            self._inbox.put(request)

    def take(self) -> list[Answer]:
        """At least one answer.

        Raises:
            Exception: what the engine raised.
        """
        found = [self._outbox.get()]
        while True:
            try:
                found.append(self._outbox.get_nowait())
            except queue.Empty:
                break
        answers = [each for each in found if not isinstance(each, BaseException)]
        if len(answers) < len(found):
            failed = next(each for each in found if isinstance(each, BaseException))
            if not answers:
                raise _tellable(failed)
            self._outbox.put(failed)
        return answers

    def stop(self) -> None:
        self._inbox.put(STOP)

    def _serve(self) -> None:
        try:
            engine = self._open()
        except BaseException as error:
            self._failed = error
            self._is_open.set()
            return
        self._is_open.set()
        try:
            while (first := self._inbox.get()) is not STOP:
                for answer in self._answers(engine, first):
                    self._outbox.put(answer)
        except BaseException as error:
            self._outbox.put(error)
        finally:
            engine.close()

    def _answers(self, engine: Engine, first: Request | ScoreRequest) -> Iterator[Answer]:
        if isinstance(first, Request):
            return engine.generate(chain([first], self._more(Request)))
        return engine.score(chain([first], self._more(ScoreRequest)))

    def _more(self, kind: type[Asked]) -> Iterator[Asked]:
        """Those that come without a pause; a stage asks for texts or for scores, not for both."""
        while True:
            try:
                request = self._inbox.get(timeout=PAUSE)
            except queue.Empty:
                return
            if not isinstance(request, kind):
                self._inbox.put(request)
                return
            yield request


def _tellable(error: BaseException) -> BaseException:
    """An error that another process can read: its own class may not be there."""
    return error if isinstance(error, LLMDistillError) else RuntimeError(repr(error))
