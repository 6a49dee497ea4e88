"""Bars on a terminal, plain lines without one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

SECONDS_BETWEEN_LINES = 5.0


class StageProgress(Protocol):
    def advance(self, rows: int = 1, tokens: int = 0) -> None: ...


class _Rates(ProgressColumn):
    """`12.3 rows/s 4,100 tokens/s`, over the whole of the bar's life."""

    def render(self, task: Task) -> Text:
        seconds = task.elapsed or 0.0
        if seconds <= 0:
            return Text("")
        rates = f"{task.completed / seconds:,.1f} rows/s"
        if task.fields.get("tokens"):
            rates += f" {task.fields['tokens'] / seconds:,.0f} tokens/s"
        return Text(rates, style="cyan")


class _Bar:
    def __init__(self, progress: Progress, task_id: int) -> None:
        self._progress, self._task_id, self._tokens = progress, task_id, 0

    def advance(self, rows: int = 1, tokens: int = 0) -> None:
        self._tokens += tokens
        self._progress.update(self._task_id, advance=rows, tokens=self._tokens)  # type: ignore[arg-type]


class _Lines:
    """A line every few seconds, so that a log file stays readable."""

    def __init__(self, console: Console, description: str, total: int | None) -> None:
        self._console, self._description, self._total = console, description, total
        self._started = self._printed = time.monotonic()
        self._rows = self._tokens = 0

    def advance(self, rows: int = 1, tokens: int = 0) -> None:
        self._rows += rows
        self._tokens += tokens
        now = time.monotonic()
        if now - self._printed < SECONDS_BETWEEN_LINES:
            return
        self._printed = now
        seconds = now - self._started
        done = f"{self._rows:,}" + (f"/{self._total:,}" if self._total else "")
        parts = [f"{done} rows", f"{self._rows / seconds:,.1f} rows/s"]
        if self._tokens:
            parts.append(f"{self._tokens / seconds:,.0f} tokens/s")
        if self._total and self._rows:
            left = (self._total - self._rows) * seconds / self._rows
            parts.append(f"{left:,.0f} s left")
        self._console.print(f"  {self._description}: {', '.join(parts)}", highlight=False)


@contextmanager
def show_progress(console: Console, description: str, total: int | None) -> Iterator[StageProgress]:
    """A bar with rows/s, tokens/s and time left; plain lines where there is no terminal."""
    if not console.is_terminal:
        yield _Lines(console, description, total)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rates(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Bar(progress, progress.add_task(description, total=total, tokens=0))
