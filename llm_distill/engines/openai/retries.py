"""How long to wait before another attempt at a request."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FIRST_BACKOFF = 1.0
MOST_BACKOFF = 60.0


def wait_before(failed: int, retry_after: float | None) -> float:
    """Seconds to wait after `failed` attempts (1 and up).

    The backoff doubles, and half of it is random: requests that failed together come back apart.
    What the server asks for (`retry_after`) is never cut short, only spread.
    """
    backoff = min(MOST_BACKOFF, FIRST_BACKOFF * 2 ** (failed - 1))
    if retry_after is not None:
        return retry_after + random.uniform(0, backoff / 2)
    return random.uniform(backoff / 2, backoff)


def read_retry_after(header: str | None) -> float | None:
    """Seconds that a `Retry-After` asks for, as a number or a date; None if it says nothing."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            then = parsedate_to_datetime(header)
        except ValueError:
            return None
        if then.tzinfo is None:
            then = then.replace(tzinfo=UTC)
        seconds = (then - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if seconds == seconds else None  # a NaN is not a number of seconds
