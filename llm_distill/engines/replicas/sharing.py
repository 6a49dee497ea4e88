"""Which replica is given which request, and what becomes of those of one that is lost.

Requests with the same beginning go to the same replica, which has computed it already, unless
another has much less to do. No replica has more than so many requests at once, so that a lost one
costs little. What it had is asked of another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

from llm_distill.engines.base import Completion, Request, Score, ScoreRequest

Asked = TypeVar("Asked", bound=Request | ScoreRequest)
Answer = TypeVar("Answer", bound=Completion | Score)

BEGINNING = 256
"""Characters or tokens of a prompt that tell where it goes."""
SHARE = 64
"""The most requests of one message."""
SLACK = 8
"""How many requests more than another a replica may have for the sake of a beginning."""
REMEMBERED = 10_000
"""Beginnings whose replica is remembered."""


class Lost:
    """Says that a replica is gone with what it had."""


class Pool(Protocol):
    """The replicas, by number. They come and go."""

    def ready(self) -> Sequence[int]:
        """Those that take requests, at least one: it waits for the first.

        Raises:
            ModelError: there is none, and none will come.
        """
        ...

    def give(self, replica: int, requests: Sequence[Any]) -> None: ...

    def wait(self) -> Iterable[tuple[int, Sequence[Any] | Lost]]:
        """What has come, at least one message or one loss.

        Raises:
            Exception: what an engine raised.
        """
        ...


class Sharing(Generic[Asked, Answer]):
    """Shares requests among the replicas of a pool. most: requests that one has at once."""

    def __init__(self, pool: Pool, most: int) -> None:
        self._pool, self._most = pool, most
        self._has: dict[int, dict[str, Asked]] = {}
        self._place: dict[Any, int] = {}

    def answers(self, requests: Iterable[Asked]) -> Iterator[Answer]:
        """In the order in which they come.

        Raises:
            ModelError: all replicas are lost.
            Exception: what an engine raised.
        """
        source, again = iter(requests), deque[Asked]()
        is_exhausted = False
        while True:
            shares: dict[int, list[Asked]] = {}
            while (replicas := self._free()) and not (is_exhausted and not again):
                request = again.popleft() if again else next(source, None)
                if request is None:
                    is_exhausted = True
                    break
                chosen = self._choose(request, replicas)
                self._has[chosen][request.id] = request
                share = shares.setdefault(chosen, [])
                share.append(request)
                if len(share) == SHARE:
                    self._pool.give(chosen, shares.pop(chosen))
            for replica, share in shares.items():
                self._pool.give(replica, share)
            if not any(self._has.values()):
                return
            for replica, came in self._pool.wait():
                if isinstance(came, Lost):
                    again.extend(self._has.pop(replica, {}).values())
                    continue
                for answer in came:
                    self._has[replica].pop(answer.id)
                    yield answer

    def _free(self) -> list[int]:
        """Replicas with room, those with the fewest requests first."""
        for replica in self._pool.ready():
            self._has.setdefault(replica, {})
        free = (replica for replica, has in self._has.items() if len(has) < self._most)
        return sorted(free, key=lambda replica: len(self._has[replica]))

    def _choose(self, request: Asked, free: Sequence[int]) -> int:
        """That which had the same beginning, unless it has more to do than others.

        free: with the fewest requests first.
        """
        key, least = beginning(request), free[0]
        before = self._place.get(key)
        if (
            before is not None
            and before in free
            and len(self._has[before]) <= len(self._has[least]) + SLACK
        ):
            return before
        if len(self._place) >= REMEMBERED:
            self._place.clear()
        self._place[key] = least
        return least


def beginning(request: Request | ScoreRequest) -> Any:
    prompt = request.prompt
    if isinstance(prompt, str):
        return prompt[:BEGINNING]
    if prompt and isinstance(prompt[0], int):
        return tuple(prompt[:BEGINNING])
    return str(prompt[0])[:BEGINNING] if prompt else ""
