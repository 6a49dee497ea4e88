"""Requests or tokens a minute, evenly spaced."""

from __future__ import annotations

import asyncio
import time
from asyncio import sleep


class Pace:
    """Lets amounts pass one after the other, each as far apart as the rate asks for.

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
