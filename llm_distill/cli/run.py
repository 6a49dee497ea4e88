"""What `run`, `status` and `report` do: load, run, show."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.markup import escape

from llm_distill.cli.display import (
    TerminalDisplay,
    console,
    quiet_libraries,
    say,
    status_table,
)
from llm_distill.cli.tables import result_tables
from llm_distill.engines.openai.settings import OpenAISettings
from llm_distill.pipeline.load import load_pipeline
from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.plan import Selection
from llm_distill.runtime.record import RunRecord, read_run
from llm_distill.runtime.runner import run_pipeline
from llm_distill.stage import models_of


def run_command(
    file: str,
    profile: str | None,
    assignments: Sequence[str],
    *,
    selection: Selection,
    root: Path,
    max_cost: float | None,
    as_events: bool,
) -> None:
    """Run and show each stage, then every evaluation's tables and where the run is kept.

    as_events: print a line of JSON for whatever happens instead.
    """
    quiet_libraries()
    stop_as_after_ctrl_c()
    if as_events:
        from llm_distill.cli.events import event_lines

        with event_lines() as events:
            pipeline, workspace = _prepared(file, profile, assignments, selection, root)
            try:
                run_pipeline(pipeline, workspace, selection, events, max_cost)
            finally:
                events.report = _report(events.record, workspace, events.says)
        return
    pipeline, workspace = _prepared(file, profile, assignments, selection, root)
    out = console()
    display = TerminalDisplay(out)
    out.print(
        f"[bold]{pipeline.name}[/bold] from {escape(pipeline.source)}, "
        f"workspace {escape(str(workspace.root))}"
    )
    show_before(out, pipeline)
    try:
        record = run_pipeline(pipeline, workspace, selection, display, max_cost)
    except KeyboardInterrupt:
        out.print(
            "\n[yellow]stopped[/yellow]: finished stages are kept in "
            f"{escape(str(workspace.artifacts))}, a training also its checkpoints; "
            f"{_how_to_go_on(selection, pipeline, display)}"
        )
        _name_report(_report(display.record, workspace, say), display.record)
        raise SystemExit(130) from None
    except Exception:
        if display.begun:
            out.print(
                "[red]failed[/red]: finished stages are kept; once it is mended, "
                f"{_how_to_go_on(selection, pipeline, display)}"
            )
        _name_report(_report(display.record, workspace, say), display.record)
        raise
    _show_results(record, workspace)
    out.print(
        f"done: {record.name}, kept in {escape(str(record.directory))}; "
        f"its stages: llm-distill status {record.name}"
    )
    _name_report(_report(record, workspace, say), record)


def _prepared(
    file: str, profile: str | None, assignments: Sequence[str], selection: Selection, root: Path
) -> tuple[PipelineConfig, Workspace]:
    """Load and check everything before the run prints its first line."""
    pipeline = load_pipeline(file, profile=profile, assignments=assignments)
    workspace = Workspace(root)
    selection.stages(pipeline)
    workspace.prepare()
    return pipeline, workspace


def show_before(out: Console, pipeline: PipelineConfig) -> bool:
    """What is left out; who is sent prompts and a key: a file may be somebody else's.

    Returns:
        Whether anybody is.
    """
    if pipeline.unread:
        names = ", ".join(pipeline.unread)
        out.print(f"optional and read by no stage, so not run: {names}", markup=False)
    named = {model for stage in pipeline.stages.values() for model in models_of(stage)}
    is_sent = False
    for name, config in pipeline.models.items():
        engine = config.engine
        if name in named and isinstance(engine, OpenAISettings):
            key = (
                f" with the key in {engine.api_key_env}" if engine.api_key_env in os.environ else ""
            )
            where = " and ".join(engine.addresses())
            out.print(f"model '{name}': prompts go to {where}{key}", markup=False)
            is_sent = True
    return is_sent


def status_command(name: str | None, root: Path) -> None:
    """Show a run's stages, and why it stopped if it did."""
    out = console()
    record = read_run(Workspace(root), name, on_damaged=say)
    profile = f", profile {record.profile}" if record.profile else ""
    out.print(f"{escape(record.described)} ({escape(f'{record.pipeline}{profile}')})")
    out.print(status_table(record))
    for stage_name, stage in record.stages.items():
        if stage.state == "failed":
            why = stage.why.removeprefix(f"stage '{stage_name}': ")
            out.print(f"{stage_name} failed: {why}", markup=False)
            out.print(f"log: {record.directory / 'logs' / f'{stage_name}.log'}", markup=False)


def report_command(name: str | None, root: Path, output: Path | None) -> None:
    """Write a run's report again, whatever state the run is in."""
    from llm_distill.report.write import write_report

    workspace = Workspace(root)
    record = read_run(workspace, name, on_damaged=say)
    console().print(escape(record.described))
    _name_report(write_report(record, workspace, output))


def _report(
    record: RunRecord | None, workspace: Workspace, says: Callable[[str], None]
) -> Path | None:
    """Write the report of what there is, or find an equal one; None where there is nothing.

    An error here never hides how the run ended, and a second Ctrl-C skips the report.
    """
    from llm_distill.report.write import equal_report, write_report

    if record is None or not any(stage.artifact for stage in record.stages.values()):
        return None
    try:
        return equal_report(record, workspace) or write_report(record, workspace)
    except KeyboardInterrupt:
        return None
    except Exception as error:
        says(f"no report: {error or type(error).__name__}")
        logging.getLogger("llm_distill").debug("no report", exc_info=True)
        return None


def _name_report(path: Path | None, record: RunRecord | None = None) -> None:
    """record: the run that has just ended; its report may be an earlier one's that is equal."""
    from llm_distill.report.plots import INSTALL, available

    if path is None:
        return
    if record is not None and path.parent != record.directory:
        note = ", written before: nothing has changed"
    else:
        note = "" if available() else f" (tables only; for plots: {INSTALL})"
    console().print(f"report: {escape(str(path))}{escape(note)}")


def _show_results(record: RunRecord, workspace: Workspace) -> None:
    out = console()
    for name, stage in record.stages.items():
        artifact = workspace.find(stage.artifact, read_files=False) if stage.artifact else None
        if artifact is None:
            continue
        for table in result_tables(name, artifact.manifest.metrics):
            out.print(table)


def _how_to_go_on(selection: Selection, pipeline: PipelineConfig, display: TerminalDisplay) -> str:
    if not selection.force:
        return "the same command goes on from there"
    left = selection.still_forced(pipeline, display.ended)
    forces = " ".join(f"--force {name}" for name in left)
    change = f"with {forces} as its only --force" if left else "without --force"
    return f"the same command {change} goes on from there"


def stop_as_after_ctrl_c() -> None:
    """Treat a job scheduler's SIGTERM and a closed terminal as Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # nohup: the run goes on
        return
    terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]

    def hang_up(number: int, frame: FrameType | None) -> None:
        for descriptor in terminals:
            if not os.isatty(descriptor):  # gone: printing would fail and hide why the run stopped
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        raise KeyboardInterrupt

    signal.signal(signal.SIGHUP, hang_up)
