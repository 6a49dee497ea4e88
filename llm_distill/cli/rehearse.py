"""`llm-distill rehearse`: a pipeline walked with stand-ins, and a table of what its counts gave."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.markup import escape
from rich.table import Table

from llm_distill.cli.display import TerminalDisplay, console, quiet_libraries
from llm_distill.errors import ConfigError
from llm_distill.pipeline.load import load_pipeline
from llm_distill.rehearsal.rehearsal import write_rehearsal
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.plan import Selection
from llm_distill.runtime.record import RunRecord
from llm_distill.runtime.runner import run_pipeline

ROWS = "expected DATASET=N or DATASET:SPLIT=N, such as openai/gsm8k:train=7473"


def rehearse_command(
    file: str,
    profile: str | None,
    assignments: Sequence[str],
    *,
    rows: Sequence[str],
    folder: Path | None,
) -> None:
    """Rehearse a file in `folder`, or one that is removed afterwards.

    Raises:
        LLMDistillError: a stage stops; what came before is shown all the same.
    """
    quiet_libraries()
    told = dict(_read_rows(text) for text in rows)
    pipeline = load_pipeline(file, profile=profile, assignments=assignments)
    place = Path(tempfile.mkdtemp(prefix="rehearsal-")) if folder is None else folder
    place.mkdir(parents=True, exist_ok=True)
    out = console()
    try:
        written, left_out = write_rehearsal(pipeline, place.absolute(), told)
        out.print(f"[bold]{pipeline.name}[/bold], rehearsed: {escape(str(written))}")
        if left_out:
            out.print(f"left out, as they need the Hub: {', '.join(left_out)}", markup=False)
        workspace = Workspace(place / "workspace")
        display = TerminalDisplay(out)
        try:
            run_pipeline(load_pipeline(str(written)), workspace, Selection(), display)
        finally:
            if display.record is not None:
                out.print(_table(display.record, workspace))
    finally:
        if folder is None:
            shutil.rmtree(place, ignore_errors=True)


def _read_rows(text: str) -> tuple[str, int]:
    name, _, number = text.rpartition("=")
    if not name or not number.isdigit():
        raise ConfigError(f"--rows {text}: {ROWS}")
    return name, int(number)


def _table(record: RunRecord, workspace: Workspace) -> Table:
    table = Table(box=box.SIMPLE)
    table.add_column("stage", no_wrap=True)
    for title in ("rows in", "out", "left out", "requests", "minutes"):
        table.add_column(title, justify="right")
    total_requests, total_seconds = 0, 0.0
    for name, stage in record.stages.items():
        artifact = workspace.find(stage.artifact, read_files=False) if stage.artifact else None
        if artifact is None:
            table.add_row(name, "", "", "", "", stage.state)
            continue
        manifest = artifact.manifest
        requests = sum(manifest.completions.values())
        total_requests += requests
        total_seconds += manifest.seconds
        table.add_row(
            name,
            f"{manifest.rows_in:,}",
            "" if manifest.rows_out is None else f"{manifest.rows_out:,}",
            f"{sum(manifest.dropped.values()):,}",
            f"{requests:,}",
            f"{manifest.seconds / 60:.1f}",
        )
    table.add_section()
    table.add_row("in all", "", "", "", f"{total_requests:,}", f"{total_seconds / 60:.1f}")
    return table
