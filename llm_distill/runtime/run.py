"""A run that is being carried out, and what it tells the person who watches."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from llm_distill.engines.budget import Budget
from llm_distill.runtime.artifact import Artifact, Workspace
from llm_distill.runtime.plan import Decision
from llm_distill.runtime.progress import StageProgress
from llm_distill.runtime.record import RunRecord, State
from llm_distill.runtime.resolve import Resolver
from llm_distill.tracking import TrackedRun


class Display(Protocol):
    """What the runner tells the person who watches."""

    def starts(self, record: RunRecord) -> None: ...

    def begins(self, decision: Decision) -> None: ...

    def ends(self, name: str, artifact: Artifact, state: State, seconds: float) -> None: ...

    def says(self, message: str) -> None: ...

    def progress(
        self, description: str, total: int | None, unit: str, done: int
    ) -> AbstractContextManager[StageProgress]: ...


@dataclass(frozen=True)
class Run:
    """What every stage of a run is carried out with.

    budget: what all of its stages may spend together.
    tracked: the run's name and place in an experiment tracker; `tracked.of(stage)` a stage's.
    """

    resolver: Resolver
    workspace: Workspace
    record: RunRecord
    display: Display
    budget: Budget
    tracked: TrackedRun
