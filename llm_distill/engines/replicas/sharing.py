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
from llm_distill.engines.replicas.routing import Routing

Asked = TypeVar("Asked", bound=Request | ScoreRequest)
Answer = TypeVar("Answer", bound=Completion | Score)

SHARE = 64
"""The most requests of one message."""


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
        self._routing = Routing[int]()

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
                chosen = self._routing.choose(request, replicas, self._load)
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
        """Replicas with room."""
        for replica in self._pool.ready():
            self._has.setdefault(replica, {})
        return [replica for replica, has in self._has.items() if len(has) < self._most]

    def _load(self, replica: int) -> int:
        return len(self._has[replica])
