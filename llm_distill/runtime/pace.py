"""How fast a piece of work goes, and how long it still takes. Pure: it is told the time.

What comes before the first unit is not in the rate: a model is loaded then, code is compiled, a
first batch is filled. Units that come together, as those of a batch do, are one arrival, and a rate
is taken from arrival to arrival, over the last minute or the later half of the time, if that is
longer: where much is left, one slow minute says little. Until that is known the last time's counts.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from llm_distill.manifest import Pace

SECONDS_UNTIL_KNOWN = 3.0
"""Since the first arrival: a rate over less says little."""
SECONDS_UNTIL_SURE = 30.0
"""Since the first arrival: until then, the last time's rate counts too."""
WINDOW = 60.0
MOST_ARRIVALS = 200
"""In the window: those that are closer together are one, as the answers of a batch are."""


class Arrival(NamedTuple):
    """When it began, in seconds, and what there was by then in all, itself included."""

    at: float
    units: int
    tokens: int


class Speed:
    """The rate of one piece of work. All times are in seconds, on any clock."""

    def __init__(self, now: float, last: Pace | None = None) -> None:
        """last: what was measured when this was last done, whatever has changed since."""
        self._opened = now
        self._last = last if last is not None and last.units and last.seconds else None
        self._first: Arrival | None = None
        self._seen: deque[Arrival] = deque()
        self._latest = now

    def came(self, now: float, units: int, tokens: int) -> None:
        """units, tokens: how many there are by now, in all."""
        self._latest = now
        window = max(WINDOW, (now - self._first.at) / 2) if self._first else WINDOW
        if self._seen and now - self._seen[-1].at < window / MOST_ARRIVALS:
            self._seen[-1] = self._seen[-1]._replace(units=units, tokens=tokens)
            if len(self._seen) == 1:
                self._first = self._seen[0]
            return
        self._seen.append(Arrival(now, units, tokens))
        self._first = self._first or self._seen[0]
        while len(self._seen) > 3 and self._seen[1].at < now - window:
            self._seen.popleft()

    def rates(self, now: float) -> tuple[float, float] | None:
        """Units and tokens a second; None until that is known."""
        measured = self._measured(now)
        if measured is None:
            return None
        seconds, first, last = measured
        return (last.units - first.units) / seconds, (last.tokens - first.tokens) / seconds

    def left(self, now: float, units: float) -> float | None:
        """Seconds that as many units still take; None until that can be known."""
        usual = self._last.seconds / self._last.units if self._last else None
        if self._first is None:
            if self._last is None or usual is None:
                return None
            first = min(units, self._last.first)
            return max(0.0, self._last.start - (now - self._opened)) + (units - first) * usual
        measured = self._measured(now)
        each, waited = usual, now - self._latest
        if measured is not None:
            seconds, oldest, newest = measured
            each = seconds / (newest.units - oldest.units)
            waited = min(waited, self._between())
            if usual is not None:
                sure = min(1.0, (self._latest - self._first.at) / SECONDS_UNTIL_SURE)
                each = sure * each + (1 - sure) * usual
        return None if each is None else max(0.0, units * each - waited)

    def pace(self) -> Pace | None:
        """For the next time; None where no rate could be taken."""
        if self._first is None or self._seen[-1].units == self._first.units:
            return None
        last = self._seen[-1]
        return Pace(
            first=self._first.units,
            start=round(self._first.at - self._opened, 3),
            units=last.units - self._first.units,
            seconds=round(last.at - self._first.at, 3),
        )

    def _between(self) -> float:
        """Mean seconds between two arrivals."""
        return (self._seen[-1].at - self._seen[0].at) / (len(self._seen) - 1)

    def _measured(self, now: float) -> tuple[float, Arrival, Arrival] | None:
        """Seconds, and the arrivals at their ends. One that is overdue makes it slower."""
        if self._first is None or self._seen[-1].units <= self._seen[0].units:
            return None
        first, last = self._seen[0], self._seen[-1]
        if last.at - self._first.at < SECONDS_UNTIL_KNOWN:
            return None
        return max(last.at, now - self._between()) - first.at, first, last
