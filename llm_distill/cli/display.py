"""What a person sees: a line per stage while it runs, and tables."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from llm_distill.errors import counted
from llm_distill.evaluation.results import Results
from llm_distill.manifest import Manifest
from llm_distill.runtime.artifact import Artifact
from llm_distill.runtime.plan import Decision
from llm_distill.runtime.progress import show_progress
from llm_distill.runtime.record import RunRecord
from llm_distill.stage import Progress

QUIET = {
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""Environment variables by which libraries print and send less; the user's own take precedence."""


class TerminalDisplay:
    """Implements `runtime.execute.Display` with Rich; plain lines where there is no terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.record: RunRecord | None = None
        self.begun: list[str] = []
        self.ended: list[str] = []

    def starts(self, record: RunRecord) -> None:
        """Print nothing: the command has named the pipeline, and names the run at its end."""
        self.record = record

    def begins(self, decision: Decision) -> None:
        self.begun.append(decision.name)
        self._console.print(f"[bold]▶ {decision.name}[/bold] [dim]({escape(decision.why)})[/dim]")

    def ends(self, name: str, artifact: Artifact, state: str, seconds: float) -> None:
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
        return show_progress(self._console, description, total, unit, done)


def console() -> Console:
    """The terminal; without one, wide tables, and lines that are not cut at any column."""
    terminal = Console(highlight=False)
    if terminal.is_terminal:
        return terminal
    return Console(highlight=False, width=160, soft_wrap=True)


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


def status_table(record: RunRecord) -> Table:
    table = make_table("stage", "state", right=("rows", "dropped", "tokens", "seconds"))
    for name, stage in record.stages.items():
        table.add_row(
            name,
            stage.state,
            "" if stage.rows is None else f"{stage.rows:,}",
            f"{sum(stage.dropped.values()):,}" if stage.dropped else "",
            f"{stage.tokens:,}" if stage.tokens else "",
            f"{stage.seconds:.1f}" if stage.seconds else "",
        )
    return table


def make_table(*left: str, right: Iterable[str] = (), title: str | None = None) -> Table:
    """A table with columns of text, then right-aligned ones of figures."""
    figures = (Column(name, justify="right") for name in right)
    return Table(*left, *figures, title=title, box=box.SIMPLE_HEAD)
