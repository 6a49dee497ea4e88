"""What is known of a piece of work while it goes on; how it is shown is the command line's."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from llm_distill.manifest import Pace
from llm_distill.runtime.pace import Speed
from llm_distill.stage import Progress

WAITING = "llm_distill.waiting"
"""The logger on which an engine says that it waits, and for what."""

MakeProgress = Callable[[str, int | None, str, int], AbstractContextManager[Progress]]
"""From a description, a total, its unit, and how many of them were done before."""


class _Tell(logging.Handler):
    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(record.getMessage())


@contextmanager
def told_of_waiting(tell: Callable[[str], None]) -> Iterator[None]:
    """`tell` is called with whatever an engine waits for, also one in a worker."""
    handler, logger = _Tell(tell), logging.getLogger(WAITING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def every(seconds: float, do: Callable[[], None]) -> Iterator[None]:
    """Call `do` in a thread, time and again; what it raises ends that, and is raised at the end."""
    ended = threading.Event()
    raised: list[BaseException] = []

    def go_on() -> None:
        while not ended.wait(seconds):
            try:
                do()
            except BaseException as error:
                raised.append(error)
                return

    thread = threading.Thread(target=go_on, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if raised:
        raise raised[0]


class Counts:
    """A `Progress` that adds up what it is told, for another thread to take away."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n = self._tokens = 0
        self._cost = 0.0
        self._requests: int | None = None
        self._is_news = False

    def advance(
        self, n: int = 1, tokens: int = 0, cost: float = 0.0, requests: int | None = None
    ) -> None:
        with self._lock:
            self._n += n
            self._tokens += tokens
            self._cost = cost
            self._is_news = True
            if requests is not None:
                self._requests = (self._requests or 0) + requests

    def taken(self) -> tuple[int, int, float, int | None] | None:
        """What there is since the last call, as `advance` takes it; None where that is nothing."""
        with self._lock:
            if not self._is_news:
                return None
            news = self._n, self._tokens, self._cost, self._requests
            self._n = self._tokens = 0
            self._requests, self._is_news = None, False
            return news


class Work:
    """A `Progress` that knows how far it is, how fast it goes, and what is left.

    tell: called after each advance, with this. done: units of `total` that were done before.
    n, tokens, requests: in this run. cost: of the stage by now.
    """

    def __init__(
        self,
        description: str,
        total: int | None,
        unit: str = "rows",
        done: int = 0,
        last: Pace | None = None,
        tell: Callable[[Work], None] | None = None,
    ) -> None:
        self.description, self.total, self.unit, self.done = description, total, unit, done
        self.n = self.tokens = self.requests = 0
        self.cost = 0.0
        self.waiting = ""
        self.started = time.monotonic()
        self._tell = tell
        self._paced = 0
        self._speed = Speed(self.started, last)
        self._lock = threading.Lock()

    def advance(
        self, n: int = 1, tokens: int = 0, cost: float = 0.0, requests: int | None = None
    ) -> None:
        with self._lock:
            self.n += n
            self.tokens += tokens
            self.requests += requests or 0
            self.cost, self.waiting = cost, ""
            took_time = n if requests is None else requests
            if took_time:
                self._paced += took_time
                self._speed.came(time.monotonic(), self._paced, self.tokens)
        if self._tell is not None:
            self._tell(self)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def now(self) -> int:
        """Units that are done, those from before included."""
        return self.done + self.n

    def left(self) -> float | None:
        """Seconds that it still takes; None where that cannot be known yet."""
        if self.total is None:
            return None
        with self._lock:
            return self._speed.left(time.monotonic(), max(0, self.total - self.now))

    def rates(self) -> tuple[float, float] | None:
        """Units and tokens a second; None where that cannot be known yet."""
        with self._lock:
            return self._speed.rates(time.monotonic())

    def pace(self) -> Pace | None:
        """For the next time."""
        with self._lock:
            return self._speed.pace()


def spelled(seconds: float) -> str:
    """`17 s`, `2 min 05 s`, `3 h 20 min`."""
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"
