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
    in_all,
    quiet_libraries,
    say,
    showing,
    status_table,
)
from llm_distill.cli.tables import result_tables
from llm_distill.doing import doing
from llm_distill.engines.openai.settings import OpenAISettings
from llm_distill.errors import counted
from llm_distill.evaluation.results import Results, told_later
from llm_distill.hints import Given
from llm_distill.pipeline.load import load_pipeline
from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.disk import network_file_system
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
    given = Given(file, profile, assignments, str(root))
    given.remember()
    if as_events:
        from llm_distill.cli.events import event_lines

        with event_lines() as events:
            pipeline, workspace = _prepared(file, profile, assignments, selection, root)
            try:
                run_pipeline(pipeline, workspace, selection, events, max_cost)
            finally:
                events.report = write_or_find_report(events.record, workspace, events.says)
        return
    pipeline, workspace = _prepared(file, profile, assignments, selection, root)
    out = console()
    display = TerminalDisplay(out)
    out.print(
        f"[bold]{pipeline.name}[/bold] from {escape(pipeline.source)}, "
        f"workspace {escape(str(workspace.root))}"
    )
    show_before(out, pipeline)
    _warn_of_network(workspace.root, out)
    try:
        with display:
            record = run_pipeline(pipeline, workspace, selection, display, max_cost)
    except KeyboardInterrupt:
        out.print(
            "\n[yellow]stopped[/yellow]: finished stages are kept in "
            f"{escape(str(workspace.artifacts))}, a training also its checkpoints"
        )
        go_on = _how_to_go_on(given, selection, max_cost, pipeline, display)
        out.print(f"to go on from there: {escape(go_on)}")
        _show_totals(display.record, out)
        with showing(out):
            _name_report(write_or_find_report(display.record, workspace, say), display.record)
        raise SystemExit(130) from None
    except Exception:
        if display.begun:
            out.print("[red]failed[/red]: finished stages are kept")
            go_on = _how_to_go_on(given, selection, max_cost, pipeline, display)
            out.print(f"once it is mended, to go on from there: {escape(go_on)}")
        _show_totals(display.record, out)
        with showing(out):
            _name_report(write_or_find_report(display.record, workspace, say), display.record)
        raise
    n_failed = _show_results(record, workspace)
    _show_totals(record, out)
    if n_failed:
        again = _command(given, selection, max_cost, (), "--retry-failed")
        out.print(f"{counted(n_failed, 'answer')} failed; to ask again: {escape(again)}")
    out.print(f"done: {record.name}, kept in {escape(str(record.directory))}")
    out.print(f"its stages: {escape(given.command('status', record.name))}")
    if _has_student(pipeline, record):
        out.print(f"ask the student: {escape(given.command('ask', record.name))}")
    with showing(out):
        _name_report(write_or_find_report(record, workspace, say), record)


def _prepared(
    file: str, profile: str | None, assignments: Sequence[str], selection: Selection, root: Path
) -> tuple[PipelineConfig, Workspace]:
    """Load and check everything before the run prints its first line."""
    pipeline = load_pipeline(file, profile=profile, assignments=assignments)
    workspace = Workspace(root)
    selection.stages(pipeline)
    workspace.prepare()
    return pipeline, workspace


def _warn_of_network(root: Path, out: Console) -> None:
    kind = network_file_system(root)
    if kind is not None:
        say(
            f"{root} is on a network file system ({kind}): its store of completions (SQLite) is "
            "for one machine at a time; start runs on one machine, or with --workspace on a disk",
            out,
        )


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
    """Show a run's stages, why it stopped if it did, and what of it was pruned."""
    out = console()
    workspace = Workspace(root)
    record = read_run(workspace, name, on_damaged=say)
    profile = f", profile {record.profile}" if record.profile else ""
    out.print(f"{escape(record.described)} ({escape(f'{record.pipeline}{profile}')})")
    out.print(status_table(record))
    for block, loop in record.loops.items():
        out.print(loop.told(block), markup=False)
    out.print(in_all(record.totals()))
    for stage_name, stage in record.stages.items():
        if stage.state == "running":
            number, of = record.place(stage_name)
            out.print(f"it is at stage {number} of {of}, {stage_name}", markup=False)
        if stage.state == "failed":
            why = stage.why.removeprefix(f"stage '{stage_name}': ")
            out.print(f"{stage_name} failed: {why}", markup=False)
            out.print(f"log: {record.directory / 'logs' / f'{stage_name}.log'}", markup=False)
    made = {name: stage.artifact for name, stage in record.stages.items() if stage.artifact}
    pruned = [
        name
        for name, address in made.items()
        if not workspace.path(address).exists() and workspace.pruned_place(address).exists()
    ]
    if pruned:
        out.print(f"pruned since, and made again by the next run: {', '.join(pruned)}")


def report_command(names: Sequence[str], root: Path, output: Path | None) -> None:
    """Write a run's report again, whatever state the run is in, or a page on several runs."""
    from llm_distill.report.write import write_compared, write_report

    workspace = Workspace(root)
    records = [read_run(workspace, name, on_damaged=say) for name in names or (None,)]
    out = console()
    for record in records:
        out.print(escape(record.described))
    with showing(out), doing("write the report"):
        if len(records) == 1:
            path = write_report(records[0], workspace, output)
        else:
            path = write_compared(records, workspace, output)
    _name_report(path)


def write_or_find_report(
    record: RunRecord | None, workspace: Workspace, says: Callable[[str], None]
) -> Path | None:
    """Write the report of what there is, or find an equal one; None where there is nothing.

    An error here never hides how the run ended, and a second Ctrl-C skips the report.
    """
    from llm_distill.report.write import equal_report, write_report

    if record is None or not any(stage.artifact for stage in record.stages.values()):
        return None
    try:
        with doing("write the report"):
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


def _has_student(pipeline: PipelineConfig, record: RunRecord) -> bool:
    """Whether the run trained a model that an exam names, which `ask` takes."""
    from llm_distill.runtime.prompt_form import examined_model

    left = [name for name, stage in record.stages.items() if stage.artifact is not None]
    trained = [n for n in left if n in pipeline.stages and pipeline.stages[n].output == "model"]
    return examined_model(pipeline, trained) is not None


def _show_totals(record: RunRecord | None, out: Console) -> None:
    if record is not None and any(stage.seconds for stage in record.stages.values()):
        out.print(in_all(record.totals()))


def _show_results(record: RunRecord, workspace: Workspace) -> int:
    """The tables of all stages; returns how many answers of servers are missing."""
    out, manifests = console(), {}
    for name, stage in record.stages.items():
        artifact = workspace.find(stage.artifact, read_files=False) if stage.artifact else None
        if artifact is not None:
            manifests[name] = artifact.manifest
    later = told_later([Results.from_metrics(each.metrics) for each in manifests.values()])
    for (name, manifest), without in zip(manifests.items(), later, strict=True):
        for table in result_tables(name, manifest.metrics, without):
            out.print(table)
    return sum(manifest.failed for manifest in manifests.values())


def _how_to_go_on(
    given: Given,
    selection: Selection,
    max_cost: float | None,
    pipeline: PipelineConfig,
    display: TerminalDisplay,
) -> str:
    """The command that was given; what has been made again is not forced once more."""
    force = selection.still_forced(pipeline, display.ended) if selection.force else ()
    options = ["--retry-failed"] if selection.retry_failed else []
    return _command(given, selection, max_cost, force, *options)


def _command(
    given: Given,
    selection: Selection,
    max_cost: float | None,
    force: Sequence[str],
    *options: str,
) -> str:
    places = (("--from", selection.start), ("--until", selection.until))
    words = [word for option, name in places if name for word in (option, name)]
    words += [word for name in force for word in ("--force", name)]
    words += ["--max-cost", f"{max_cost:g}"] if max_cost is not None else []
    return given.command("run", *words, *options, of_file=True)


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
