"""When a request may be sent: at the rate that the user set, and how long after a failure."""

from __future__ import annotations

import asyncio
import random
import re
import time
from asyncio import sleep
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FIRST_BACKOFF = 1.0
MOST_BACKOFF = 60.0


class Pace:
    """Lets amounts (requests or tokens) pass one after the other, as far apart as the rate asks.

    Even spacing keeps the rate in any minute. A bucket that starts full, as most limiters have it,
    lets twice the rate through in the first one, and a server that counts by the minute refuses.
    """

    def __init__(self, per_minute: float) -> None:
        self._seconds_each = 60 / per_minute
        self._free_at = 0.0
        self._turn = asyncio.Lock()

    async def wait(self, amount: float) -> None:
        """Wait until `amount` may pass. First come, first served."""
        async with self._turn:
            wait = self._free_at - time.monotonic()
            if wait > 0:
                await sleep(wait)
            self._free_at = max(self._free_at, time.monotonic()) + amount * self._seconds_each

    def give_back(self, amount: float) -> None:
        """Of what has passed, `amount` was not used after all."""
        self._free_at -= amount * self._seconds_each


def wait_before(failed: int, retry_after: float | None) -> float:
    """Seconds to wait after `failed` attempts (1 and up).

    The backoff doubles, and half of it is random: requests that failed together come back apart.
    What the server asks for (`retry_after`) is never cut short, only spread.
    """
    backoff = min(MOST_BACKOFF, FIRST_BACKOFF * 2 ** (failed - 1))
    if retry_after is not None:
        return retry_after + random.uniform(0, backoff / 2)
    return random.uniform(backoff / 2, backoff)


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the headers of an answer ask to wait; None if they say nothing.

    `Retry-After` is a number or a date; where it is not sent, the longest of the
    `x-ratelimit-reset-*`, such as `6m0s` or `20ms`.
    """
    header = headers.get("Retry-After")
    if header is None:
        resets = [v for k, v in headers.items() if k.lower().startswith("x-ratelimit-reset")]
        return max((s for s in map(_duration, resets) if s is not None), default=None)
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
    return max(0.0, seconds) if seconds == seconds else None  # "nan" is a float too


def _duration(text: str) -> float | None:
    """Seconds of `1h2m3.5s`, `20ms` or a number; a number that can only be a date is none."""
    parts = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:([\d.]+)s)?(?:(\d+)ms)?", text.strip())
    try:
        if parts is not None and any(parts.groups()):
            hours, minutes, seconds, thousandths = (float(each or 0) for each in parts.groups())
            return 3600 * hours + 60 * minutes + seconds + thousandths / 1000
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < 1e6 else None
