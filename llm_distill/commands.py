"""What `run`, `plan` and `status` do: load, carry out, show."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from llm_distill.display import (
    TerminalDisplay,
    console,
    plan_table,
    result_tables,
    status_table,
)
from llm_distill.errors import LLMDistillError
from llm_distill.pipeline.load import load_pipeline
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.plan import Selection, plan
from llm_distill.runtime.record import RunRecord, read_run
from llm_distill.runtime.runner import run_pipeline


def run_command(
    file: str,
    profile: str | None,
    assignments: Sequence[str],
    *,
    selection: Selection,
    root: Path,
) -> None:
    """Run and show each stage, then every evaluation's tables and where the run is kept."""
    pipeline = load_pipeline(file, profile=profile, assignments=assignments)
    workspace = Workspace(root)
    out = console()
    _quiet_libraries()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what a job scheduler sends first
    out.print(f"[bold]{pipeline.name}[/bold] from {pipeline.source}, workspace {root}")
    resume = "the same command goes on from there"
    try:
        record = run_pipeline(pipeline, workspace, selection, TerminalDisplay(out))
    except KeyboardInterrupt:
        out.print(
            f"\n[yellow]stopped[/yellow]: finished stages are kept in {workspace.artifacts}, "
            f"a training also its checkpoints; {resume}"
        )
        raise SystemExit(130) from None
    except LLMDistillError:
        out.print(f"[red]failed[/red]: finished stages are kept; once it is mended, {resume}")
        raise
    _show_results(record, workspace)
    out.print(
        f"done: {record.name}, kept in {record.directory}; "
        f"its stages: llm-distill status {record.name}"
    )


def plan_command(
    file: str,
    profile: str | None,
    assignments: Sequence[str],
    *,
    selection: Selection,
    root: Path,
) -> None:
    """Show what `run` would do now."""
    pipeline = load_pipeline(file, profile=profile, assignments=assignments)
    decisions = list(plan(pipeline, Workspace(root), selection))
    out = console()
    out.print(plan_table(decisions))
    to_run = sum(decision.action == "run" for decision in decisions)
    out.print(f"{to_run} to run, {len(decisions) - to_run} to reuse")


def status_command(name: str | None, root: Path) -> None:
    """Show a run's stages, and why it stopped if it did."""
    record = read_run(Workspace(root), name)
    out = console()
    state = record.state
    if state == "running" and not _is_alive(record.pid):
        state = "interrupted"
    profile = f", profile {record.profile}" if record.profile else ""
    out.print(f"[bold]{record.name}[/bold]: {state} ({record.pipeline}{profile})")
    out.print(status_table(record))
    for stage_name, stage in record.stages.items():
        if stage.state == "failed":
            out.print(f"{stage_name} failed: {stage.why}", markup=False)
            out.print(f"log: {record.directory / 'logs' / f'{stage_name}.log'}", markup=False)


def _show_results(record: RunRecord, workspace: Workspace) -> None:
    out = console()
    for name, stage in record.stages.items():
        artifact = workspace.find(stage.artifact) if stage.artifact else None
        if artifact is None:
            continue
        for table in result_tables(name, artifact.manifest.get("metrics", {})):
            out.print(table)


def _quiet_libraries() -> None:
    """Their bars and chatter would tear ours; warnings still reach the stage's log."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger().addHandler(logging.NullHandler())


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
