"""Carries a pipeline out: for each stage reuse or execute. The only writer of artifacts."""

from __future__ import annotations

import errno
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from llm_distill.engines.base import Engine
from llm_distill.engines.config import open_engine
from llm_distill.errors import DataError, LLMDistillError, WorkspaceError, nearest
from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.runtime.artifact import Artifact, Workspace
from llm_distill.runtime.context import StageContext
from llm_distill.runtime.environment import environment
from llm_distill.runtime.plan import Decision, Selection, decide
from llm_distill.runtime.progress import StageProgress
from llm_distill.runtime.record import RunRecord, State
from llm_distill.runtime.resolve import Resolver
from llm_distill.runtime.writer import write_rows
from llm_distill.stage import ModelOutput, RowsOutput, Stage, references

log = logging.getLogger("llm_distill")


class Display(Protocol):
    """What the runner tells the person who watches."""

    def begins(self, decision: Decision) -> None: ...

    def ends(self, name: str, artifact: Artifact, state: State, seconds: float) -> None: ...

    def says(self, message: str) -> None: ...

    def progress(
        self, description: str, total: int | None, unit: str, done: int
    ) -> AbstractContextManager[StageProgress]: ...


def run_pipeline(
    pipeline: PipelineConfig, workspace: Workspace, selection: Selection, display: Display
) -> RunRecord:
    """Run the selected stages and return the run's record.

    Raises:
        LLMDistillError: a stage failed; the record says which, and what was done is kept.
        KeyboardInterrupt: as above.
    """
    names = selection.stages(pipeline)
    workspace.prepare()
    record = RunRecord.begin(workspace, pipeline, names)
    resolver = Resolver(pipeline)
    resolver.learn_commits(names)
    forced = selection.forced(pipeline)
    must_be_ready = selection.must_be_ready(pipeline)
    for name in names:
        started = time.monotonic()
        try:
            with record.logging(name):
                artifact, state, why = _carry_out(
                    name,
                    resolver,
                    workspace,
                    record,
                    display,
                    forced=name in forced,
                    may_run=name not in must_be_ready,
                )
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            record.stages[name].state = record.state = "interrupted" if interrupted else "failed"
            record.stages[name].why = str(error) or type(error).__name__
            record.save()
            raise
        resolver.ready[name] = artifact
        seconds = time.monotonic() - started
        record.used(name, artifact, state, seconds, why)
        display.ends(name, artifact, state, seconds)
    record.state = "done"
    record.save()
    return record


def _carry_out(
    name: str,
    resolver: Resolver,
    workspace: Workspace,
    record: RunRecord,
    display: Display,
    *,
    forced: bool,
    may_run: bool,
) -> tuple[Artifact, State, str]:
    decision = decide(name, resolver, workspace, forced=forced)
    if decision.artifact is not None:
        return decision.artifact, "reused", decision.why
    if not may_run:
        raise WorkspaceError(
            f"--from: stage '{name}' comes before it and would have to run ({decision.why}); "
            "start earlier, or leave --from out"
        )
    assert decision.digest is not None
    address = workspace.address(name, decision.digest)
    waiting = f"{name}: another run is working on {address}; waiting for it"
    with workspace.lock(address, on_wait=lambda: display.says(waiting)):
        again = decide(name, resolver, workspace, forced=forced)
        if again.artifact is not None:
            return again.artifact, "reused", "another run has just made it"
        if again.damage is not None:
            aside = workspace.set_aside(workspace.path(address), "damaged")
            display.says(f"{name}: {again.why}; moved to {aside} and made again")
        display.begins(again)
        record.stages[name].state = "running"
        record.save()
        artifact = _execute(name, again, address, resolver, workspace, display)
    return artifact, "done", again.why


def _execute(
    name: str,
    decision: Decision,
    address: str,
    resolver: Resolver,
    workspace: Workspace,
    display: Display,
) -> Artifact:
    stage = resolver.pipeline.stages[name]
    work = workspace.work_dir(address)
    started = time.monotonic()
    try:
        _clear(work)
        context = _context(stage, work, resolver, display)
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
    except OSError as error:
        raise _workspace_error(name, error, workspace) from error
    except LLMDistillError as error:
        error.args = (f"stage '{name}': {error}",)
        raise


def _clear(work: Path) -> None:
    """Drop what a killed execution left, but for the checkpoints that training resumes from."""
    work.mkdir(parents=True, exist_ok=True)
    for path in work.iterdir():
        if path.name == "checkpoints":
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _context(stage: Stage, work: Path, resolver: Resolver, display: Display) -> StageContext:
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
        progress_factory=display.progress,
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
    return lambda: open_engine(resolver.model_config(target).engine, resolver.model(target))


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


def _workspace_error(name: str, error: OSError, workspace: Workspace) -> WorkspaceError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(workspace.root).free / 2**30
        return WorkspaceError(
            f"stage '{name}': the disk of {workspace.root} is full ({free:.2f} GiB free); "
            "finished stages are kept: make room, or choose another place with --workspace DIR"
        )
    return WorkspaceError(f"stage '{name}': {error}")
