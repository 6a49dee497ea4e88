"""Executes one stage: gives it its inputs, collects what it gives, publishes it."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from copy import copy
from itertools import chain
from pathlib import Path
from typing import Any

from llm_distill.engines.budget import Budget
from llm_distill.errors import DataError, LLMDistillError, nearest
from llm_distill.pipeline.graph import training_inputs
from llm_distill.runtime.artifact import Artifact, Workspace
from llm_distill.runtime.disk import explained
from llm_distill.runtime.perform import Job, MakeProgress, perform
from llm_distill.runtime.plan import Decision
from llm_distill.runtime.resolve import Resolver
from llm_distill.runtime.worker import perform_in_worker
from llm_distill.stage import Stage, references
from llm_distill.tracking import TrackedRun

log = logging.getLogger("llm_distill")


def execute(
    name: str,
    decision: Decision,
    address: str,
    resolver: Resolver,
    workspace: Workspace,
    progress: MakeProgress,
    budget: Budget,
    tracked: TrackedRun,
) -> Artifact:
    """Run the stage and publish what it gives. The artifact's lock must be held.

    budget: the run's; what the stage costs is taken from it.
    tracked: the name and place of the stage's curves, where its settings have them sent.

    Raises:
        LLMDistillError: the message begins with the stage's name.
    """
    stage = resolver.pipeline.stages[name]
    work = workspace.work_dir(address)
    started = time.monotonic()
    try:
        with explained(workspace.root):
            work.mkdir(parents=True, exist_ok=True)
            _clear(work)
            job = _job(name, work, resolver, workspace, budget, tracked)
            done = (perform_in_worker if _holds_weights(job) else perform)(job, progress)
            budget.spent = done.spent
            if done.rows == 0:
                log.warning("stage '%s' gave no rows", name)
            manifest = {
                "name": name,
                "stage": stage.stage,
                "pipeline": resolver.pipeline.name,
                "fingerprint": decision.digest,
                "identity": decision.identity,
                "settings": stage.model_dump(mode="json"),
                "seed": resolver.pipeline.seed_of(name),
                "inputs": _inputs(stage, resolver),
                "models": {
                    t: resolver.revisions(t) for _, t, kind in references(stage) if kind == "model"
                },
                "features": done.features,
                "rows_out": done.rows,
                "seconds": round(time.monotonic() - started, 3),
                **done.manifest,
            }
            artifact = workspace.publish(address, done.directory, manifest)
            shutil.rmtree(work, ignore_errors=True)
            return artifact
    except BaseException as error:
        _leave_checkpoints(work)
        if isinstance(error, LLMDistillError):
            error.args = (f"stage '{name}': {error}",)
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


def _holds_weights(job: Job) -> bool:
    """Whether memory must be given back after it; one that asks a server starts quicker here."""
    engines = job.engines.values()
    if job.stage.needs_weights or any(engine.loads_weights for engine in engines):
        return True
    models = (place for place, _, kind in references(job.stage) if kind == "model")
    return any(job.stage.loads(place) for place in models)


def _job(
    name: str,
    work: Path,
    resolver: Resolver,
    workspace: Workspace,
    budget: Budget,
    tracked: TrackedRun,
) -> Job:
    stage = resolver.pipeline.stages[name]
    rows = [target for _, target, kind in references(stage) if kind == "rows"]
    models = [target for _, target, kind in references(stage) if kind == "model"]
    may_be_empty = set(stage.may_be_empty())
    for target in rows:
        if target not in may_be_empty and resolver.ready[target].manifest["rows_out"] == 0:
            raise DataError(f"its input '{target}' has no rows; {_why_empty(target, resolver)}")
    _check_columns(stage, resolver)
    engines = {target: resolver.model_config(target).engine for target in models}
    training = {target: training_inputs(target, resolver.pipeline.stages) for target in models}
    return Job(
        stage=stage,
        seed=resolver.pipeline.seed_of(name),
        work_dir=work,
        datasets={
            target: resolver.ready[target].path for target in chain(rows, *training.values())
        },
        training=training,
        models={target: resolver.model(target) for target in models},
        engines=engines,
        identities={
            target: resolver.writer_identity(target)
            for target, engine in engines.items()
            if engine.is_kept
        },
        store=workspace.completions,
        budget=copy(budget),
        tracked=tracked,
        artifacts={
            target: resolver.ready[target].path
            for target in (*rows, *models)
            if target in resolver.ready
        },
        pipeline=resolver.pipeline.resolved,
    )


def _why_empty(name: str, resolver: Resolver) -> str:
    """What was dropped by the stage that gave no rows first, of those behind one another."""
    first: str | None = name
    while first is not None:
        manifest = resolver.ready[first].manifest
        last, first = (
            first,
            next(
                (t for t in manifest["inputs"] if resolver.ready[t].manifest.get("rows_out") == 0),
                None,
            ),
        )
    since = f"'{last}' gave none; " if last != name else ""
    return f"{since}dropped there: {manifest['dropped'] or 'none'}"


def _check_columns(stage: Stage, resolver: Resolver) -> None:
    """What `validate` could not know: the columns of data that had yet to be read."""
    for target, needed in stage.required_columns().items():
        there = resolver.ready[target].manifest["features"] or {}
        for column in sorted(set(needed) - set(there)):
            raise DataError(
                f"its input '{target}' has no column '{column}'; "
                f"{stage.remedy(column) or nearest(column, there)}"
            )


def _inputs(stage: Stage, resolver: Resolver) -> dict[str, Mapping[str, Any]]:
    return {
        target: {
            "artifact": resolver.ready[target].path.name,
            "content_digest": resolver.ready[target].content_digest,
        }
        for _, target, _ in references(stage)
        if target in resolver.ready
    }
