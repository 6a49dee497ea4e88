"""The addresses at which one model is served, and which of them a request is sent to.

By `Routing`, among those that can be reached: one that cannot rests, while the others go on.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from llm_distill.engines.base import Request, ScoreRequest
from llm_distill.engines.replicas.routing import Routing

SECONDS_OF_REST = 30.0


class Addresses:
    """Addresses of servers with the same model; see `engine.base_url`."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.urls = tuple(urls)
        self._flying: Counter[str] = Counter()
        self._rests_until: dict[str, float] = {}
        self._reached: set[str] = set()
        self._routing = Routing[str]()

    @contextmanager
    def one_for(self, request: Request | ScoreRequest, at: str | None = None) -> Iterator[str]:
        """An address, while a request is in flight there. at: the only one that is right."""
        url = at or self._choose(request)
        self._flying[url] += 1
        try:
            yield url
        finally:
            self._flying[url] -= 1

    def reached(self, url: str) -> None:
        self._reached.add(url)
        self._rests_until.pop(url, None)

    def unreachable(self, url: str) -> bool:
        """Let it rest. Whether that is news."""
        is_news = url not in self._rests_until
        self._rests_until[url] = time.monotonic() + SECONDS_OF_REST
        return is_news

    def is_away(self, url: str) -> bool:
        """Whether it could not be reached when it was last tried."""
        return url in self._rests_until

    def leave_out(self, url: str) -> None:
        """Send nothing there any more."""
        self.urls = tuple(each for each in self.urls if each != url)
        self._rests_until.pop(url, None)

    @property
    def is_hopeless(self) -> bool:
        """Whether none was ever reached, and each was tried."""
        return not self._reached and len(self._rests_until) == len(self.urls)

    def _choose(self, request: Request | ScoreRequest) -> str:
        if len(self.urls) == 1:
            return self.urls[0]
        now = time.monotonic()
        awake = [url for url in self.urls if self._rests_until.get(url, 0.0) <= now]
        # Where all rest, the one that has rested longest is tried.
        found = awake or [min(self.urls, key=lambda url: self._rests_until[url])]
        return self._routing.choose(request, found, self._flying.__getitem__)
