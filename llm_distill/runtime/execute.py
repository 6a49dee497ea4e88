"""Executes one stage: gives it its inputs, collects what it gives, publishes it."""

from __future__ import annotations

import logging
import shutil
import time
from contextlib import suppress
from copy import copy
from itertools import chain
from pathlib import Path

from llm_distill.errors import DataError, nearest
from llm_distill.manifest import InputRef
from llm_distill.pipeline.graph import training_inputs
from llm_distill.runtime.artifact import Artifact
from llm_distill.runtime.context import ModelInput, StageInputs
from llm_distill.runtime.disk import disk_explained
from llm_distill.runtime.perform import StageJob, perform
from llm_distill.runtime.plan import Decision
from llm_distill.runtime.resolve import Resolver
from llm_distill.runtime.run import Run
from llm_distill.runtime.worker import perform_in_worker
from llm_distill.stage import Stage, models_of, references, rows_of

log = logging.getLogger("llm_distill")


def execute(name: str, decision: Decision, address: str, run: Run) -> Artifact:
    """Run the stage and publish what it gives. The artifact's lock must be held."""
    resolver, workspace = run.resolver, run.workspace
    stage = resolver.pipeline.stages[name]
    work = workspace.work_dir(address)
    started = time.monotonic()
    try:
        with disk_explained(workspace.root):
            work.mkdir(parents=True, exist_ok=True)
            _clear(work)
            job = _job(name, work, run)
            carry_out = perform_in_worker if _holds_weights(job) else perform
            done = carry_out(job, run.display.progress)
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
                **done.manifest,
            }
            artifact = workspace.publish(address, done.directory, said)
            shutil.rmtree(work, ignore_errors=True)
            return artifact
    except BaseException:
        _leave_checkpoints(work)
        raise


def _leave_checkpoints(work: Path) -> None:
    """Drop half-written rows; a run with the same settings goes on from the checkpoints."""
    with suppress(OSError):  # what stopped the stage is what must be said
        _clear(work)
        for folder in (work / "checkpoints", work):
            if folder.exists() and not any(folder.iterdir()):
                folder.rmdir()


def _clear(work: Path) -> None:
    """Drop what an execution left, but for the checkpoints that training resumes from."""
    for path in work.iterdir():
        if path.name == "checkpoints":
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _holds_weights(job: StageJob) -> bool:
    """Whether memory must be given back after it; one that asks a server starts quicker here."""
    engines = (model.engine for model in job.inputs.models.values())
    if job.stage.needs_weights or any(engine.loads_weights for engine in engines):
        return True
    models = (place for place, _, kind in references(job.stage) if kind == "model")
    return any(job.stage.loads(place) for place in models)


def _job(name: str, work: Path, run: Run) -> StageJob:
    resolver = run.resolver
    stage = resolver.pipeline.stages[name]
    rows = rows_of(stage)
    may_be_empty = set(stage.may_be_empty())
    for target in rows:
        if target not in may_be_empty and resolver.ready[target].manifest.rows_out == 0:
            raise DataError(f"its input '{target}' has no rows; {_why_empty(target, resolver)}")
    _check_columns(stage, resolver)
    models = {target: _model_input(target, resolver) for target in models_of(stage)}
    trained_on = chain.from_iterable(model.trained_on for model in models.values())
    inputs = StageInputs(
        seed=resolver.pipeline.seed_of(name),
        work_dir=work,
        store=run.workspace.completions,
        tracked=run.tracked.of(name),
        rows={target: resolver.ready[target].path for target in chain(rows, trained_on)},
        models=models,
        pipeline=resolver.pipeline.resolved,
    )
    return StageJob(stage, inputs, copy(run.budget))


def _model_input(name: str, resolver: Resolver) -> ModelInput:
    engine = resolver.model_config(name).engine
    return ModelInput(
        source=resolver.model(name),
        engine=engine,
        identity=resolver.writer_identity(name) if engine.is_kept else None,
        trained_on=tuple(training_inputs(name, resolver.pipeline.stages)),
        artifact=resolver.ready[name].path if name in resolver.ready else None,
    )


def _why_empty(name: str, resolver: Resolver) -> str:
    """What was dropped by the stage that gave no rows first, of those in a row."""
    first: str | None = name
    while first is not None:
        manifest = resolver.ready[first].manifest
        last, first = (
            first,
            next(
                (t for t in manifest.inputs if resolver.ready[t].manifest.rows_out == 0),
                None,
            ),
        )
    since = f"'{last}' gave none; " if last != name else ""
    return f"{since}dropped there: {manifest.dropped or 'none'}"


def _check_columns(stage: Stage, resolver: Resolver) -> None:
    """What `validate` could not know: the columns of data that had yet to be read."""
    for target, needed in stage.required_columns().items():
        there = resolver.ready[target].manifest.features or {}
        for column in sorted(set(needed) - set(there)):
            raise DataError(
                f"its input '{target}' has no column '{column}'; "
                f"{stage.remedy(column) or nearest(column, there)}"
            )


def _inputs(stage: Stage, resolver: Resolver) -> dict[str, InputRef]:
    return {
        target: InputRef(
            artifact=resolver.ready[target].path.name,
            content_digest=resolver.ready[target].content_digest,
        )
        for _, target, _ in references(stage)
        if target in resolver.ready
    }
