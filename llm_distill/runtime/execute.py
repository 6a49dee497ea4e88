"""Executes one stage: gives it its inputs, collects its output, publishes it."""

from __future__ import annotations

import logging
import shutil
import time
from contextlib import AbstractContextManager, suppress
from copy import copy
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from llm_distill.engines.budget import Budget
from llm_distill.errors import DataError, nearest
from llm_distill.hints import hint
from llm_distill.manifest import InputRef
from llm_distill.pipeline.graph import training_inputs
from llm_distill.rows.columns import CONVERSATIONS
from llm_distill.runtime.artifact import Artifact, Workspace
from llm_distill.runtime.context import ModelInput, StageInputs
from llm_distill.runtime.disk import disk_explained
from llm_distill.runtime.measured import Measured
from llm_distill.runtime.perform import perform
from llm_distill.runtime.plan import Decision
from llm_distill.runtime.record import RunRecord, State
from llm_distill.runtime.resolve import Resolver
from llm_distill.runtime.worker import perform_in_worker
from llm_distill.stage import Progress, Stage, models_of, references, rows_of, tokenizers_of
from llm_distill.tracking import TrackedRun

log = logging.getLogger("llm_distill")

TEXT = ("string", "large_string", "null")
"""Types of a column of text; a column without any value has the last."""


class Display(Protocol):
    """What a run tells the person who watches."""

    def starts(self, record: RunRecord) -> None: ...

    def begins(self, decision: Decision) -> None: ...

    def ends(self, name: str, artifact: Artifact, state: State, seconds: float) -> None: ...

    def says(self, message: str) -> None: ...

    def progress(
        self, description: str, total: int | None, unit: str, done: int
    ) -> AbstractContextManager[Progress]: ...


@dataclass(frozen=True)
class Run:
    """What every stage of a run is executed with.

    budget: what all of its stages may spend together.
    tracked: the run's name and place in an experiment tracker.
    """

    resolver: Resolver
    workspace: Workspace
    record: RunRecord
    display: Display
    budget: Budget
    tracked: TrackedRun


def execute(name: str, decision: Decision, address: str, run: Run) -> Artifact:
    """Run the stage and publish its output. The artifact's lock must be held."""
    resolver, workspace = run.resolver, run.workspace
    stage = resolver.pipeline.stages[name]
    work = workspace.work_dir(address)
    started = time.monotonic()
    measured = Measured(run.display.progress, run.record.stages[name])
    try:
        with disk_explained(workspace.root):
            work.mkdir(parents=True, exist_ok=True)
            _clear(work)
            inputs = _stage_inputs(name, work, run)
            carry_out = perform_in_worker if _holds_weights(stage, inputs) else perform
            done = carry_out(stage, inputs, measured.progress)
            run.budget.spent = done.spent
            if done.rows == 0:
                log.warning("stage '%s' gave no rows", name)
            said = {
                "name": name,
                "stage": stage.stage,
                "pipeline": resolver.pipeline.name,
                "fingerprint": decision.digest,
                "identity": decision.identity,
                "settings": stage.model_dump(mode="json"),
                "seed": resolver.pipeline.seed_of(name),
                "inputs": _inputs(stage, resolver),
                "models": {target: resolver.used(target) for target in models_of(stage)},
                "features": done.features,
                "rows_out": done.rows,
                "seconds": round(time.monotonic() - started, 3),
                "paces": measured.paces,
                **done.manifest,
            }
            artifact = workspace.publish(address, done.directory, said)
            shutil.rmtree(work, ignore_errors=True)
            return artifact
    except BaseException:
        run.record.stages[name].seconds = round(time.monotonic() - started, 3)
        _leave_checkpoints(work)
        raise


def _leave_checkpoints(work: Path) -> None:
    """Drop half-written rows; a run with the same settings resumes from the checkpoints."""
    with suppress(OSError):  # the error that stopped the stage matters more
        _clear(work)
        for folder in (work / "checkpoints", work):
            if folder.exists() and not any(folder.iterdir()):
                folder.rmdir()


def _clear(work: Path) -> None:
    """Drop what an execution left, except for the checkpoints that training resumes from."""
    for path in work.iterdir():
        if path.name == "checkpoints":
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _holds_weights(stage: Stage, inputs: StageInputs) -> bool:
    """Whether it needs a worker, which gives memory back; without one a stage starts sooner."""
    return (
        stage.needs_weights
        or any(model.engine.loads_weights for model in inputs.models.values())
        or any(stage.loads(place) for place, _, kind in references(stage) if kind == "model")
    )


def _stage_inputs(name: str, work: Path, run: Run) -> StageInputs:
    resolver = run.resolver
    stage = resolver.pipeline.stages[name]
    rows = rows_of(stage)
    may_be_empty = set(stage.may_be_empty())
    for target in rows:
        if target not in may_be_empty and resolver.ready[target].manifest.rows_out == 0:
            raise DataError(f"its input '{target}' has no rows; {_why_empty(target, resolver)}")
    _check_columns(stage, resolver)
    read = tokenizers_of(stage)
    models = {t: _model_input(t, resolver, reads_tokenizer=t in read) for t in models_of(stage)}
    trained_on = chain.from_iterable(model.trained_on for model in models.values())
    return StageInputs(
        seed=resolver.pipeline.seed_of(name),
        work_dir=work,
        store=run.workspace.completions,
        tracked=run.tracked.of(name),
        log=run.record.log_of(name),
        rows={target: resolver.ready[target].path for target in chain(rows, trained_on)},
        models=models,
        pipeline=resolver.pipeline.resolved,
        budget=copy(run.budget),
    )


def _model_input(name: str, resolver: Resolver, *, reads_tokenizer: bool) -> ModelInput:
    engine = resolver.model_config(name).engine
    return ModelInput(
        source=resolver.with_tokenizer(name) if reads_tokenizer else resolver.model(name),
        engine=engine,
        identity=resolver.writer_identity(name) if engine.answering().is_kept else None,
        trained_on=tuple(training_inputs(name, resolver.pipeline.stages)),
        artifact=resolver.ready[name].path if name in resolver.ready else None,
    )


def _why_empty(name: str, resolver: Resolver) -> str:
    """What was dropped by the stage that first gave no rows, upstream of `name`."""
    last, empty = name, [name]
    while empty:
        last, manifest = empty[0], resolver.ready[empty[0]].manifest
        empty = [t for t in manifest.inputs if resolver.ready[t].manifest.rows_out == 0]
    since = f"'{last}' gave none; " if last != name else ""
    dropped = ", ".join(f"{count:,} {why}" for why, count in manifest.dropped.items())
    see = hint("preview", "--stage", last.partition("@")[0], of_file=True)
    return f"{since}dropped there: {dropped or 'none'}. To see its rows: {see}"


def _check_columns(stage: Stage, resolver: Resolver) -> None:
    """Check what `validate` could not: the columns of data that had not been read."""
    for target, needed in stage.required_columns().items():
        there = resolver.ready[target].manifest.features or {}
        for column in sorted(set(needed) - set(there)):
            raise DataError(
                f"its input '{target}' has no column '{column}'; "
                f"{stage.remedy(column) or nearest(column, there)}"
            )
    for target, new in stage.columns_that_are_new().items():
        there = resolver.ready[target].manifest.features or {}
        for column in sorted(new.keys() & set(there)):
            raise DataError(
                f"its input '{target}' has a column '{column}' already, and it would be lost; "
                f"{new[column]}"
            )
    for target, needed in stage.read_as_text().items():
        there = resolver.ready[target].manifest.features or {}
        for column in sorted(set(needed)):
            is_read = stage.reads_conversations and _is_conversation(column, there[column])
            if _kind(there[column]) not in TEXT and not is_read:
                if _is_list(there[column]) and "several" in type(stage).model_fields:
                    raise DataError(
                        f"the column '{column}' of its input '{target}' holds lists, and is read "
                        "as one label a text; set several: true, or name a column of text"
                    )
                of_text = (name for name, kind in there.items() if _kind(kind) in TEXT)
                raise DataError(
                    f"the column '{column}' of its input '{target}' holds {_kind(there[column])}, "
                    f"and is read as text; name another, or have load_dataset write numbers as "
                    f"text with columns: {{NAME: {column}}}; {nearest(column, of_text)}"
                )


def _is_conversation(column: str, feature: Any) -> bool:
    inner = feature.get("feature") if isinstance(feature, dict) else None
    return column in CONVERSATIONS and isinstance(inner, dict) and "role" in inner


def _is_list(feature: Any) -> bool:
    return isinstance(feature, dict) and feature.get("_type") in ("List", "LargeList", "Sequence")


def _kind(feature: Any) -> str:
    """A column's type as `Features.to_dict` has it, in short."""
    if not isinstance(feature, dict) or "_type" not in feature:
        return "objects"
    return str(feature.get("dtype") or f"values of type {feature['_type']}")


def _inputs(stage: Stage, resolver: Resolver) -> dict[str, InputRef]:
    return {
        target: InputRef(
            artifact=resolver.ready[target].path.name,
            content_digest=resolver.ready[target].manifest.content_digest,
        )
        for _, target, _ in references(stage)
        if target in resolver.ready
    }
