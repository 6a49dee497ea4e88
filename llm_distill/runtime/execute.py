"""Executes one stage: gives it its inputs, collects what it gives, publishes it."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from llm_distill.engines.base import Engine
from llm_distill.engines.budget import Budget
from llm_distill.engines.opening import open_engine
from llm_distill.errors import DataError, LLMDistillError, nearest
from llm_distill.runtime.artifact import Artifact, Workspace
from llm_distill.runtime.context import StageContext
from llm_distill.runtime.disk import explained
from llm_distill.runtime.environment import environment
from llm_distill.runtime.plan import Decision
from llm_distill.runtime.progress import StageProgress
from llm_distill.runtime.resolve import Resolver
from llm_distill.runtime.writer import write_rows
from llm_distill.stage import ModelOutput, RowsOutput, Stage, references

log = logging.getLogger("llm_distill")

MakeProgress = Callable[[str, int | None, str, int], AbstractContextManager[StageProgress]]


def execute(
    name: str,
    decision: Decision,
    address: str,
    resolver: Resolver,
    workspace: Workspace,
    progress: MakeProgress,
) -> Artifact:
    """Run the stage and publish what it gives. The artifact's lock must be held.

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
            context = _context(stage, work, resolver, progress)
            try:
                output = stage.run(context)
                directory, rows_out = _collect(name, output, work)
            finally:
                context.close()
            manifest = {
                "name": name,
                "stage": stage.stage,
                "pipeline": resolver.pipeline.name,
                "fingerprint": decision.digest,
                "identity": decision.identity,
                "settings": stage.model_dump(mode="json"),
                "seed": resolver.pipeline.seed,
                "inputs": _inputs(stage, resolver),
                "models": {
                    t: resolver.revisions(t) for _, t, kind in references(stage) if kind == "model"
                },
                "features": _features(output),
                "rows_in": context.rows_read,
                "rows_out": rows_out,
                "dropped": dict(context.dropped),
                "tokens_in": context.n_prompt_tokens,
                "tokens_out": context.n_completion_tokens,
                "metrics": context.metrics,
                "warnings": context.warnings,
                "seconds": round(time.monotonic() - started, 3),
                **environment(),
            }
            artifact = workspace.publish(address, directory, manifest)
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


def _context(stage: Stage, work: Path, resolver: Resolver, progress: MakeProgress) -> StageContext:
    rows = [target for _, target, kind in references(stage) if kind == "rows"]
    models = [target for _, target, kind in references(stage) if kind == "model"]
    for target in rows:
        if resolver.ready[target].manifest["rows_out"] == 0:
            raise DataError(
                f"its input '{target}' has no rows; "
                f"dropped there: {resolver.ready[target].manifest['dropped'] or 'none'}"
            )
    _check_columns(stage, resolver)
    return StageContext(
        seed=resolver.pipeline.seed,
        work_dir=work,
        datasets={target: resolver.ready[target].path for target in rows},
        models={target: resolver.model(target) for target in models},
        engines={target: _opener(target, resolver) for target in models},
        progress_factory=progress,
    )


def _check_columns(stage: Stage, resolver: Resolver) -> None:
    """What `validate` could not know: the columns of data that had yet to be read."""
    for target, needed in stage.required_columns().items():
        there = resolver.ready[target].manifest["features"] or {}
        for column in sorted(set(needed) - set(there)):
            raise DataError(
                f"its input '{target}' has no column '{column}'; {nearest(column, there)}"
            )


def _opener(target: str, resolver: Resolver) -> Callable[[], Engine]:
    settings = resolver.model_config(target).engine
    return lambda: open_engine(settings, resolver.model(target), Budget(None))


def _collect(name: str, output: RowsOutput | ModelOutput, work: Path) -> tuple[Path, int | None]:
    """The directory to publish, and the number of rows if it holds rows."""
    if isinstance(output, ModelOutput):
        return output.directory, None
    directory = work / "artifact"
    rows = write_rows(output, directory)
    if rows == 0:
        log.warning("stage '%s' gave no rows", name)
    return directory, rows


def _inputs(stage: Stage, resolver: Resolver) -> dict[str, Mapping[str, Any]]:
    return {
        target: {
            "artifact": resolver.ready[target].path.name,
            "content_digest": resolver.ready[target].content_digest,
        }
        for _, target, _ in references(stage)
        if target in resolver.ready
    }


def _features(output: RowsOutput | ModelOutput) -> dict[str, Any] | None:
    return output.features.to_dict() if isinstance(output, RowsOutput) else None
