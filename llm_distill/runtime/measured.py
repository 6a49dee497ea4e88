"""What a stage's work takes, noted while it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from llm_distill.manifest import Pace
from llm_distill.runtime.progress import MakeProgress, Work
from llm_distill.runtime.record import StageRecord
from llm_distill.stage import Progress


class Measured:
    """Passes progress on, and notes in the run's record what the stage has asked and paid by now.

    paces: by description, for the time left of the next time.
    """

    def __init__(self, make: MakeProgress, stage: StageRecord) -> None:
        self._make, self._stage = make, stage
        self.paces: dict[str, Pace] = {}

    @contextmanager
    def progress(
        self, description: str, total: int | None, unit: str, done: int
    ) -> Iterator[Progress]:
        work = Work(description, total, unit, done)
        with self._make(description, total, unit, done) as shown:
            try:
                yield _Both(self._stage, work, shown)
            finally:
                self._note(work)

    def _note(self, work: Work) -> None:
        pace, before = work.pace(), self.paces.get(work.description)
        if pace is not None and before is not None:
            pace = Pace(
                first=before.first + pace.first,
                start=max(before.start, pace.start),
                units=before.units + pace.units,
                seconds=before.seconds + pace.seconds,
            )
        if pace is not None:
            self.paces[work.description] = pace


class _Both:
    def __init__(self, stage: StageRecord, work: Work, shown: Progress) -> None:
        self._stage, self._work, self._shown = stage, work, shown

    def advance(
        self, n: int = 1, tokens: int = 0, cost: float = 0.0, requests: int | None = None
    ) -> None:
        self._work.advance(n, tokens, cost, requests)
        if requests is not None:
            self._stage.requests += requests
            self._stage.tokens += tokens
            self._stage.cost = cost
        self._shown.advance(n, tokens, cost, requests)
