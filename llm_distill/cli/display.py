"""What a person sees: a line per stage while it runs, and tables."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Self

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Column

from llm_distill.cli.bars import Foot, in_lines, on_terminal, show_progress
from llm_distill.cli.folding import FoldingTable
from llm_distill.doing import shown_by
from llm_distill.errors import counted
from llm_distill.evaluation.results import Results
from llm_distill.manifest import Manifest, Pace
from llm_distill.runtime.artifact import Artifact
from llm_distill.runtime.plan import Decision
from llm_distill.runtime.progress import spelled
from llm_distill.runtime.record import RunRecord, Totals
from llm_distill.stage import Progress

QUIET = {
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""Environment variables by which libraries print and send less; the user's own take precedence."""
WIDTH = 160
"""Columns of a table where there is no terminal."""


class TerminalDisplay:
    """Implements `runtime.execute.Display` with Rich; plain lines where there is no terminal.

    As a context: the lines at the foot of the terminal go away, however the run ends.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._foot = Foot(console, self._headline)
        self._stage = ""
        self._since = 0.0
        self._paces: Mapping[str, Pace] = {}
        self.record: RunRecord | None = None
        self.begun: list[str] = []
        self.ended: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._foot.hide()

    def starts(self, record: RunRecord) -> None:
        """Print nothing: the command has named the pipeline, and names the run at its end."""
        self.record = record

    def begins(self, decision: Decision) -> None:
        self.begun.append(decision.name)
        self._stage, self._since = decision.name, time.monotonic()
        self._paces = decision.last.paces if decision.last is not None else {}
        place = f"{self._place()}; " if self.record else ""
        self._console.print(
            f"[bold]▶ {decision.name}[/bold] [dim]({place}{escape(decision.why)})[/dim]"
        )
        if self._console.is_terminal:
            self._foot.show()

    def ends(self, name: str, artifact: Artifact, state: str, seconds: float) -> None:
        self._foot.hide()
        self._stage, self._paces = "", {}
        self.ended.append(name)
        summary = summarise(artifact.manifest)
        if state == "reused":
            self._console.print(f"[dim]• {name}: reused{', ' + summary if summary else ''}[/dim]")
            return
        self._console.print(f"[green]✓[/green] {name}: {escape(summary)}, {seconds:.1f} s")
        for text in artifact.manifest.texts:
            self._console.print(f"  to read: {escape(str(artifact.path / text))}")
        for warning in artifact.manifest.warnings:
            self._console.print(f"  [yellow]warning:[/yellow] {escape(warning)}")

    def says(self, message: str) -> None:
        say(message, self._console)

    def progress(
        self, description: str, total: int | None, unit: str, done: int
    ) -> AbstractContextManager[Progress]:
        last = self._paces.get(description)
        if self._console.is_terminal:
            return on_terminal(self._foot, description, total, unit, done, last)
        after = f" ({self._place()})" if self._stage and self.record else ""
        return in_lines(self._console, description, total, unit, done, last, after)

    def _place(self) -> str:
        """`stage 7 of 28`."""
        assert self.record is not None
        number, of = self.record.place(self._stage)
        return f"stage {number} of {of}"

    def _headline(self) -> str:
        if not self._stage:
            return ""
        place = f"{self._place()}, " if self.record else ""
        return f"{place}{self._stage}: {spelled(time.monotonic() - self._since)}{self._so_far()}"

    def _so_far(self) -> str:
        """What the run has asked and paid, the stage that goes on included."""
        said = spending(self.record.totals()) if self.record else ""
        return f"; the run so far: {said}" if said else ""


def spending(totals: Totals) -> str:
    """`1,200 requests, 150,000 tokens, cost 0.40`; nothing of what is 0."""
    parts = []
    if totals.requests:
        parts.append(counted(totals.requests, "request"))
    if totals.tokens:
        parts.append(counted(totals.tokens, "token"))
    if totals.cost:
        parts.append(f"cost {totals.cost:,.2f}")
    return ", ".join(parts)


def in_all(totals: Totals) -> str:
    """`in all: 20 stages run, 8 reused; 1,200 requests, 150,000 tokens, cost 0.40; 4 min 10 s`."""
    stages = f"{counted(totals.run, 'stage')} run"
    if totals.reused:
        stages += f", {totals.reused:,} reused"
    return "; ".join(filter(None, [f"in all: {stages}", spending(totals), spelled(totals.seconds)]))


def console() -> Console:
    """The terminal, or without one, wide tables.

    Lines are not broken at any column: the terminal does it, and a path or command that is copied
    from there is whole.
    """
    width = None if Console().is_terminal else WIDTH
    return Console(highlight=False, width=width, soft_wrap=True)


def showing(out: Console) -> AbstractContextManager[None]:
    """Meanwhile, what takes a while is shown: on `out`, or beside it where others may read that."""
    if not out.is_terminal:
        out = Console(stderr=True, highlight=False, soft_wrap=True)
    return shown_by(lambda what, total, unit, done: show_progress(out, what, total, unit, done))


def quiet_libraries() -> None:
    """Their bars and messages would break ours; warnings still reach the stage's log."""
    for name, value in {**QUIET, "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}.items():
        os.environ.setdefault(name, value)
    logging.getLogger().addHandler(logging.NullHandler())


def say(message: str, out: Console | None = None) -> None:
    """Print a note, on `out` or on the terminal."""
    (out or console()).print(f"[yellow]{escape(message)}[/yellow]")


def summarise(manifest: Manifest) -> str:
    """`96 rows, dropped 4 (no <input>: 4), 2,310 tokens` from a manifest."""
    parts = []
    if manifest.rows_out is not None:
        parts.append(counted(manifest.rows_out, "row"))
    dropped = manifest.dropped
    if dropped:
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in dropped.items())
        parts.append(f"dropped {sum(dropped.values()):,} ({reasons})")
    if manifest.tokens_out:
        parts.append(counted(manifest.tokens_out, "token"))
    reused = manifest.completions.get("reused")
    if reused:
        parts.append(f"{counted(reused, 'completion')} known before")
    if manifest.failed:
        parts.append(f"{counted(manifest.failed, 'answer')} failed (--retry-failed asks again)")
    if manifest.cost:
        parts.append(f"cost {manifest.cost:,.2f}")
    loss = manifest.metrics.get("train_loss")
    if isinstance(loss, float):
        parts.append(f"train loss {loss:.3f}")
    aligned = Results.from_metrics(manifest.metrics).alignment
    if aligned is not None and aligned.share_of_bytes is not None:
        parts.append(f"{aligned.share_of_bytes:.1%} of the bytes compared")
    return ", ".join(parts)


def status_table(record: RunRecord) -> FoldingTable:
    """Without the columns of requests and cost where there were none."""
    totals = record.totals()
    asked = ["requests"] if totals.requests else []
    paid = ["cost"] if totals.cost else []
    right = ("rows", "dropped", *asked, "tokens", *paid, "seconds")
    table = make_table("stage", "state", right=right)
    for name, stage in record.stages.items():
        table.add_row(
            name,
            stage.state,
            "" if stage.rows is None else f"{stage.rows:,}",
            f"{sum(stage.dropped.values()):,}" if stage.dropped else "",
            *([f"{stage.requests:,}" if stage.requests else ""] if asked else []),
            f"{stage.tokens:,}" if stage.tokens else "",
            *([f"{stage.cost:,.2f}" if stage.cost else ""] if paid else []),
            f"{stage.seconds:.1f}" if stage.seconds else "",
        )
    return table


def make_table(*left: str, right: Iterable[str] = (), title: str | None = None) -> FoldingTable:
    """A table with columns of text, the first of names, then right-aligned ones of figures.

    Columns of text that come last are added with `add_column`.
    """
    figures = (Column(name, justify="right") for name in right)
    return FoldingTable(*left, *figures, title=title, box=box.SIMPLE_HEAD)
