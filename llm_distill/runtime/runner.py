"""Runs a pipeline: each stage is reused or executed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from llm_distill.doing import doing, shown_by
from llm_distill.engines.budget import Budget
from llm_distill.errors import LLMDistillError, WorkspaceError
from llm_distill.hints import with_stage
from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.runtime.artifact import Artifact, Workspace
from llm_distill.runtime.disk import disk_explained
from llm_distill.runtime.execute import Display, Run, execute
from llm_distill.runtime.loops import settle
from llm_distill.runtime.plan import Selection, decide, plan, planning
from llm_distill.runtime.preflight import preflight
from llm_distill.runtime.record import RunRecord, State
from llm_distill.runtime.reporting import report_to
from llm_distill.runtime.resolve import Resolver
from llm_distill.runtime.scalars import plain_name, stage_scalars
from llm_distill.tracking import TrackedRun


def run_pipeline(
    pipeline: PipelineConfig,
    workspace: Workspace,
    selection: Selection,
    display: Display,
    max_cost: float | None = None,
    sweep: str | None = None,
) -> RunRecord:
    """Run the selected stages and return the run's record.

    max_cost: the most that servers may charge, in the currency of their `price`.
    sweep: the sweep's file, of a run that belongs to one.

    Raises:
        LLMDistillError: it cannot succeed, and nothing is begun; or a stage failed: the record says
            which, and what was done is kept.
        KeyboardInterrupt: as above.
    """
    names = selection.stages(pipeline)
    forced = selection.forced(pipeline)
    must_be_ready = selection.must_be_ready(pipeline)
    workspace.prepare()
    resolver = Resolver(pipeline, lambda: workspace.first_run(pipeline.name))
    with shown_by(display.progress), doing("check what is there"):
        resolver.learn_commits(names)
        _check_before(resolver, workspace, selection, display)
    record = RunRecord.begin(workspace, pipeline, names, sweep)
    tracked = TrackedRun(pipeline.name, record.name, workspace.tracking)
    run = Run(resolver, workspace, record, display, Budget(max_cost), tracked)
    display.starts(record)
    passed: set[str] = set()
    with (
        shown_by(display.progress),
        record.ended(),
        report_to(pipeline.report_to, tracked, display.says) as send,
    ):
        for step, name in enumerate(names, start=1):
            if name in passed:
                continue
            started = time.monotonic()
            try:
                with record.logging(name):
                    with named(name), disk_explained(workspace.root):
                        artifact, state, why = carry_out(
                            name,
                            run,
                            may_run=name not in must_be_ready,
                            forced=name in forced,
                            retry_failed=selection.retry_failed,
                        )
                    resolver.ready[name] = artifact
                    seconds = time.monotonic() - started
                    record.used(name, artifact, state, seconds, why)
                ended = settle(name, resolver)
            except BaseException as error:
                record.stopped(error, name)
                raise
            display.ends(name, artifact, state, seconds)
            figures = stage_scalars(artifact.manifest, made=state == "done")
            send({f"{plain_name(name)}/{figure}": value for figure, value in figures.items()}, step)
            if ended is not None:
                passed.update(ended.passed)
                forced = selection.forced(resolver.pipeline)
                record.ended_loop(ended)
                display.says(ended.told)
    record.state = "done"
    record.save()
    return record


def _check_before(
    resolver: Resolver, workspace: Workspace, selection: Selection, display: Display
) -> None:
    """What `preflight` finds: its problems are raised, its warnings said."""
    # With what has been read of models already; nothing of a run that is refused is noted.
    own = replace(resolver, first_run=planning(resolver.pipeline, workspace).first_run, ready={})
    pipeline = resolver.pipeline
    decisions = list(plan(pipeline, workspace, selection, resolver=own, read_files=False))
    must_be_ready = selection.must_be_ready(pipeline)
    found = preflight(decisions, own, workspace, must_be_ready, says=display.says)
    refused = found.error(pipeline)
    if refused is not None:
        raise refused
    for warning in found.warnings:
        display.says(warning)


@contextmanager
def named(stage: str) -> Iterator[None]:
    """Put the stage's name before the message of an error that a user can act on."""
    try:
        yield
    except LLMDistillError as error:
        error.args = (with_stage(f"stage '{stage}': {error}", stage),)
        raise


def carry_out(
    name: str, run: Run, *, may_run: bool = True, **wanted: bool
) -> tuple[Artifact, State, str]:
    """Reuse or execute a stage whose inputs are ready.

    wanted: as `decide` takes it.

    Returns:
        Its artifact, what was done, and why.
    """
    resolver, workspace, display = run.resolver, run.workspace, run.display
    decision = decide(name, resolver, workspace, may_run=may_run, **wanted)
    if decision.artifact is not None:
        return decision.artifact, "reused", decision.why
    if not may_run:
        raise WorkspaceError(
            f"it comes before --from and would have to run ({decision.why}); start earlier, or "
            "leave --from out"
        )
    assert decision.digest is not None
    address = workspace.address(name, decision.digest)

    def wait(holder: str) -> None:
        display.says(f"{name}: {holder} is working on {address}; waiting for it")

    with workspace.lock(address, wait):
        again = decide(name, resolver, workspace, **wanted)
        if again.artifact is not None:
            return again.artifact, "reused", "another run has just made it"
        if again.damage is not None:
            aside = workspace.set_aside(workspace.path(address), "damaged")
            display.says(f"{name}: {again.why}; moved to {aside} and made again")
        run.record.stages[name].state = "running"
        run.record.save()
        display.begins(replace(again, last=workspace.latest(name)))
        artifact = execute(name, again, address, run)
    return artifact, "done", again.why
