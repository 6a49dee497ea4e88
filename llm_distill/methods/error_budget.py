"""How many bad rows a run tolerates: a few are the data's fault, many mean a broken run."""

from __future__ import annotations

import re
from collections import Counter

from llm_distill.errors import DataError

DIGITS = re.compile(r"\d+")
"""In errors they count tokens or rows, and the cause is the same."""
MOST_SHOWN = 100


class ErrorBudget:
    """Counts failures among `total` requests, and gives up once there are more than allowed.

    That is before the last request, so that no more tokens are paid for.

    Args:
        max_error_rate: the share of `total` that may fail, in [0, 1].
        total: number of requests.
    """

    def __init__(self, max_error_rate: float, total: int) -> None:
        self._max_error_rate = max_error_rate
        self.total = total
        self._first = ""
        self._by_cause: Counter[str] = Counter()
        self.failed = 0
        self._truncated = 0

    def figures(self) -> dict[str, int]:
        """The counts, for the manifest."""
        return {"requests": self.total, "errors": self.failed, "truncated": self._truncated}

    def count(self, identity: str, error: str | None, truncated: bool = False) -> None:
        """Record the outcome of one request; `error` is None if it succeeded.

        Raises:
            DataError: more than `max_error_rate` of all requests have failed.
        """
        self._truncated += truncated
        if error is None:
            return
        self.failed += 1
        self._first = self._first or f"{identity}: {error}"
        self._by_cause[DIGITS.sub("…", error)[:MOST_SHOWN]] += 1
        if self.failed > self._max_error_rate * self.total:
            raise DataError(
                f"{self.failed} of {self.total} failed, more than max_error_rate: "
                f"{self._max_error_rate} allows; first error: {self._first}{self._others()}"
            )

    def _others(self) -> str:
        """How often each cause was met, where there are several."""
        if len(self._by_cause) < 2:
            return ""
        most = self._by_cause.most_common(3)
        return "; most often: " + ", ".join(f"{cause!r} {count:,}" for cause, count in most)
