"""`llm-distill rehearse`: a pipeline walked with stand-ins, and a table of what its counts gave."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llm_distill.cli.display import (
    TerminalDisplay,
    console,
    make_table,
    quiet_libraries,
    showing,
)
from llm_distill.cli.run import stop_as_after_ctrl_c
from llm_distill.doing import doing
from llm_distill.errors import ConfigError, WorkspaceError
from llm_distill.hints import Given
from llm_distill.pipeline.load import load_pipeline
from llm_distill.rehearsal.rehearsal import write_rehearsal
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.disk import disk_explained
from llm_distill.runtime.plan import Selection
from llm_distill.runtime.record import RunRecord
from llm_distill.runtime.runner import run_pipeline

ROWS = "expected DATASET=N or DATASET:SPLIT=N, such as openai/gsm8k:train=7473"

FIGURES = ("rows in", "out", "left out", "requests", "tokens", "minutes")


@dataclass(frozen=True)
class Walked:
    """What became of a stage. tokens: read and written; those of a script are words."""

    stage: str
    state: str
    why: str = ""
    rows_in: int | None = None
    rows_out: int | None = None
    dropped: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    tokens: int = 0
    seconds: float = 0.0


def rehearse_command(
    file: str,
    profile: str | None,
    assignments: Sequence[str],
    *,
    rows: Sequence[str],
    max_steps: int | None,
    folder: Path | None,
    as_json: bool = False,
) -> None:
    """Rehearse a file in `folder`, or in one that is removed afterwards.

    Raises:
        LLMDistillError: a stage stops; what came before is shown all the same.
    """
    quiet_libraries()
    stop_as_after_ctrl_c()
    told = dict(_read_rows(text) for text in rows)
    pipeline = load_pipeline(file, profile=profile, assignments=assignments)
    out = Console(stderr=True, highlight=False, soft_wrap=True) if as_json else console()
    with _kept_in(folder) as place:
        with disk_explained(place), showing(out), doing("write the stand-ins"):
            written, left_out = write_rehearsal(pipeline, place, told, max_steps)
        given = Given(file, profile, assignments)  # of what is thrown away nothing can be shown
        if folder is not None:
            given = Given(str(written), workspace=str(place / "workspace"))
        given.remember()
        out.print(f"[bold]{pipeline.name}[/bold], rehearsed: {escape(str(written))}")
        for why, names in left_out.items():
            out.print(f"left out, as they need {why}: {', '.join(names)}", markup=False)
        if max_steps is not None:
            out.print(f"each training takes {max_steps} steps (--max-steps)", markup=False)
        workspace, display = Workspace(place / "workspace"), TerminalDisplay(out)
        try:
            with display:
                run_pipeline(load_pipeline(str(written)), workspace, Selection(), display)
        finally:
            if display.record is not None:
                walked = list(_walked(display.record, workspace))
                if as_json:
                    stages = [asdict(each) for each in walked]
                    found = {"stages": stages, "left_out": left_out, "max_steps": max_steps}
                    print(json.dumps(found, indent=1))
                else:
                    out.print(_table(walked))


@contextmanager
def _kept_in(folder: Path | None) -> Iterator[Path]:
    """The folder, made if need be, or one for the time being."""
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorkspaceError(f"--folder {folder} cannot be made: {error.strerror}") from error
        yield folder.absolute()
        return
    with disk_explained(Path(tempfile.gettempdir())):
        place = Path(tempfile.mkdtemp(prefix="rehearsal-"))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _read_rows(text: str) -> tuple[str, int]:
    name, _, number = text.rpartition("=")
    if not name or not (number.isascii() and number.isdigit()):
        raise ConfigError(f"--rows {text}: {ROWS}")
    return name, int(number)


def _walked(record: RunRecord, workspace: Workspace) -> Iterator[Walked]:
    for name, stage in record.stages.items():
        artifact = workspace.find(stage.artifact, read_files=False) if stage.artifact else None
        if artifact is None:
            yield Walked(name, stage.state, stage.why)
            continue
        made = artifact.manifest
        yield Walked(
            name,
            stage.state,
            rows_in=made.rows_in,
            rows_out=made.rows_out,
            dropped=made.dropped,
            requests=sum(made.completions.values()),
            tokens=made.tokens_in + made.tokens_out,
            seconds=made.seconds,
        )


def _table(walked: Sequence[Walked]) -> Table:
    table = make_table("stage", right=FIGURES)
    table.add_column("why")
    for each in walked:
        if each.rows_in is None:
            table.add_row(each.stage, "", "", "", "", "", each.state, "")
            continue
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in each.dropped.items())
        table.add_row(
            each.stage,
            f"{each.rows_in:,}",
            "" if each.rows_out is None else f"{each.rows_out:,}",
            f"{sum(each.dropped.values()):,}" if each.dropped else "",
            f"{each.requests:,}" if each.requests else "",
            f"{each.tokens:,}" if each.tokens else "",
            f"{each.seconds / 60:.1f}",
            escape(reasons),
        )
    table.add_section()
    minutes = sum(each.seconds for each in walked) / 60
    requests, tokens = (sum(getattr(e, of) for e in walked) for of in ("requests", "tokens"))
    table.add_row("in all", "", "", "", f"{requests:,}", f"{tokens:,}", f"{minutes:.1f}", "")
    return table
