"""Requests through the completion store to an engine, and the answers in the requests' order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any, Generic, Literal, TypeVar

from llm_distill.engines.base import Completion, Engine, Request, Score, ScoreRequest
from llm_distill.engines.store.store import Key, StoredAnswers
from llm_distill.rows.thoughts import split_thoughts
from llm_distill.rows.tool_calls import split_calls

AHEAD = 10_000
"""The most requests that are read beyond the oldest one without an answer: memory stays flat."""

NOT_STORED: tuple[Any, Any, Any] = (
    lambda request: (request.id.encode(), 0),
    lambda key, request: None,
    lambda key, answer: None,
)
"""Key, known answer and keeping it, where answers cost nothing."""

Came = Literal["made", "reused"]
Asked = TypeVar("Asked", bound=Request | ScoreRequest)
Answer = TypeVar("Answer", bound=Completion | Score)


def complete(
    requests: Iterable[Request],
    engine: Callable[[], Engine],
    stored: StoredAnswers | None,
    on_arrival: Callable[[Completion, Came], None],
) -> Iterator[tuple[Request, Completion]]:
    """Each request with its completion, in order.

    What was answered before is not asked again, nor is a request that another row is waiting for.
    The rest is stored as it arrives, as the model wrote it; what it thought is told from what it
    answered only here.

    Args:
        requests: read lazily.
        engine: called on the first request that must be asked.
        stored: None where answers cost nothing; then every request is asked.
        on_arrival: called with every completion as it arrives.

    Raises:
        ValueError: two requests that wait at the same time have one id.
    """
    memory = NOT_STORED
    if stored is not None:
        memory = stored.key, stored.completion, stored.keep
    line: _Line[Request, Completion] = _Line(requests, *memory, on_arrival)
    for request, completion in line.through(lambda missing: engine().generate(missing)):
        yield request, _parted(request, completion)


def score(
    requests: Iterable[ScoreRequest],
    engine: Callable[[], Engine],
    stored: StoredAnswers | None,
    on_arrival: Callable[[Score, Came], None],
) -> Iterator[tuple[ScoreRequest, Score]]:
    """As `complete`, for the likelihoods of given completions."""
    memory = NOT_STORED
    if stored is not None:
        memory = stored.score_key, stored.score, stored.keep_score
    line: _Line[ScoreRequest, Score] = _Line(requests, *memory, on_arrival)
    yield from line.through(lambda missing: engine().score(missing))


def _parted(request: Request, completion: Completion) -> Completion:
    """With the thoughts and the calls that stand in the text apart, as servers often give them."""
    thought, text = split_thoughts(completion.text)
    calls = completion.tool_calls
    if request.tools and not calls:
        found, text = split_calls(text)
        calls = tuple(found) or None
    if text == completion.text:
        return completion
    reasoning = "\n\n".join(filter(None, [completion.reasoning, thought])) or None
    return replace(completion, text=text, reasoning=reasoning, tool_calls=calls)


class _Line(Generic[Asked, Answer]):
    """The requests that wait, in their order, and the answers that came before their turn."""

    def __init__(
        self,
        requests: Iterable[Asked],
        key: Callable[[Asked], Key],
        known: Callable[[Key, Asked], Answer | None],
        keep: Callable[[Key, Answer], None],
        on_arrival: Callable[[Answer, Came], None],
    ) -> None:
        """key: equal for requests that have the same answer. known, keep: read and write it."""
        self._source = iter(requests)
        self._key, self._known, self._keep, self._on_arrival = key, known, keep, on_arrival
        self._line: deque[Asked] = deque()
        self._waiting: set[str] = set()
        self._answers: dict[str, Answer] = {}
        self._asked: dict[str, Key] = {}
        self._same: dict[Key, list[str]] = {}
        self._is_exhausted = False

    def through(
        self, engine: Callable[[Iterable[Asked]], Iterator[Answer]]
    ) -> Iterator[tuple[Asked, Answer]]:
        """Every request with its answer, in order; `engine` is given those that must be asked."""
        while not self._is_exhausted:
            missing = self._missing()
            first = next(missing, None)
            yield from self._answered()
            if first is None:
                continue
            for answer in engine(chain([first], missing)):
                self._arrived(answer)
                yield from self._answered()
            yield from self._answered()
            if self._asked:
                raise RuntimeError(f"the engine lost request {next(iter(self._asked))!r}")

    def _missing(self) -> Iterator[Asked]:
        """Those without an answer. Ends early where too many wait for one that is slow."""
        while len(self._line) < AHEAD:
            request = next(self._source, None)
            if request is None:
                self._is_exhausted = True
                return
            if request.id in self._waiting:
                raise ValueError(f"request id {request.id!r} is used twice")
            self._waiting.add(request.id)
            self._line.append(request)
            key = self._key(request)
            if key in self._same:
                self._same[key].append(request.id)
                continue
            known = self._known(key, request)
            if known is not None:
                self._note(known, "reused")
                continue
            self._asked[request.id] = key
            self._same[key] = []
            yield request

    def _arrived(self, answer: Answer) -> None:
        key = self._asked.pop(answer.id)
        self._keep(key, answer)
        self._note(answer, "made")
        for identity in self._same.pop(key):
            self._note(replace(answer, id=identity), "reused")

    def _answered(self) -> Iterator[tuple[Asked, Answer]]:
        """Those at the head of the line that have their answers; they leave it."""
        while self._line and self._line[0].id in self._answers:
            request = self._line.popleft()
            self._waiting.remove(request.id)
            yield request, self._answers.pop(request.id)

    def _note(self, answer: Answer, came: Came) -> None:
        self._answers[answer.id] = answer
        self._on_arrival(answer, came)
