"""Carries a sweep out: one run after the other, each noted in the file when it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from llm_distill.errors import LLMDistillError
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.disk import disk_explained
from llm_distill.runtime.execute import Display
from llm_distill.runtime.plan import Selection
from llm_distill.runtime.record import RunRecord
from llm_distill.runtime.runner import run_pipeline
from llm_distill.secrets import without_secrets
from llm_distill.sweeps.measure import RunMeasured, measure
from llm_distill.sweeps.outcomes import Outcome, SweepFile, read_sweep
from llm_distill.sweeps.study import Combination, Study


class Watcher(Protocol):
    """Who is told how a sweep goes."""

    def begins(
        self, combination: Combination, number: int, total: int
    ) -> AbstractContextManager[Watched]:
        """A run is about to begin."""
        ...

    def ends(self, outcome: Outcome) -> None: ...


class Watched(Display, Protocol):
    """What shows a run, and knows its record once it has one."""

    record: RunRecord | None


def carry_out(
    study: Study,
    todo: Sequence[Combination],
    path: Path,
    file: SweepFile,
    watcher: Watcher,
    *,
    report: Callable[[RunRecord], Path | None],
    max_cost: float | None = None,
    retry_failed: bool = False,
) -> LLMDistillError | Exception | None:
    """Run what is to do; a run that fails is noted, and the others go on.

    Args:
        study: The sweep.
        todo: The runs, in order.
        path: The sweep's file; it is written after each run.
        file: Its content, which gets the outcomes.
        watcher: Who is told.
        report: Writes a run's report and says where.
        max_cost: The most that servers may charge for all runs, in the currency of their price.
        retry_failed: As `run` takes it.

    Returns:
        The error of the first run that failed; None if none did.

    Raises:
        KeyboardInterrupt: the runs that have ended are kept.
    """
    first_error: Exception | None = None
    left = max_cost
    for number, combination in enumerate(todo, start=1):
        pipeline = study.load(combination.setting, combination.seed)
        began = time.time()
        failure: Exception | None = None
        measured = RunMeasured()
        with watcher.begins(combination, number, len(todo)) as display:
            try:
                record = run_pipeline(
                    pipeline,
                    study.workspace,
                    Selection(retry_failed=retry_failed),
                    display,
                    left,
                    sweep=_below(study.workspace.root, path),
                )
                measured = measure(record, study.workspace)
            except Exception as error:
                failure, first_error = error, first_error or error
        begun = display.record
        if left is not None and begun is not None:
            left = max(0.0, left - spent(begun, study.workspace))
        written = report(begun) if begun is not None else None
        outcome = Outcome(
            settings=dict(combination.setting.values),
            seed=combination.seed,
            state="done" if failure is None else "failed",
            run=begun.name if begun is not None else "",
            report=_below(study.workspace.root, written),
            why="" if failure is None else _said(failure),
            recipe=measured.recipe_digest if failure is None else "",
            started=began,
            seconds=round(time.time() - began, 3),
            figures=tuple(measured.figures),
        )
        with _held(path, file):
            file.put(outcome, measured.recipe if failure is None else None, measured.items)
            file.save(path)
        watcher.ends(outcome)
    return first_error


@contextmanager
def _held(path: Path, file: SweepFile) -> Iterator[None]:
    """Hold the file, with what another process has put into it meanwhile."""
    from filelock import FileLock

    with disk_explained(path.parent, "the sweep's file: "):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(str(path.with_name(f".{path.name}.lock"))):
            if path.exists():
                there = read_sweep(path)
                file.recipes = {**there.recipes, **file.recipes}
                file.items = {**there.items, **file.items}
                for outcome in there.runs:
                    known = file.find(outcome.setting, outcome.seed)
                    if known is None or (known.state, outcome.state) == ("failed", "done"):
                        file.put(outcome)
            yield


def spent(record: RunRecord, workspace: Workspace) -> float:
    """What servers charged for the stages that a run has made, in the currency of their price."""
    cost = 0.0
    for stage in record.stages.values():
        if stage.state == "done" and stage.artifact is not None:
            artifact = workspace.find(stage.artifact, read_files=False)
            cost += artifact.manifest.cost if artifact is not None else 0.0
    return cost


def _said(error: Exception) -> str:
    text = without_secrets(str(error)) or type(error).__name__
    return text if isinstance(error, LLMDistillError) else f"{type(error).__name__}: {text}"


def _below(root: Path, path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        return str(path)
