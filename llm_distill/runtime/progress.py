"""Bars on a terminal, plain lines without one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from rich import progress as bars
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.table import Column
from rich.text import Text

from llm_distill.stage import Progress

SECONDS_BETWEEN_LINES = 5.0
WAITING = "llm_distill.waiting"
"""The logger on which an engine says that it waits, and for what."""


MakeProgress = Callable[[str, int | None, str, int], AbstractContextManager[Progress]]
"""From a description, a total, its unit, and how many of them were done before."""


class _Rates(ProgressColumn):
    """`12.3 rows/s, 4,100 tokens/s, 17 s left`, over the whole of the bar's life.

    Without the tokens if that does not fit into `room` columns: the time left matters more.
    """

    def __init__(self, room: int) -> None:
        super().__init__(Column(no_wrap=True, max_width=room))
        self._room = room

    def render(self, task: Task) -> Text:
        seconds = task.elapsed or 0.0
        if task.fields["waiting"]:
            return Text(task.fields["waiting"], style="yellow", overflow="ellipsis")
        if seconds <= 0:
            return Text("")
        new, total = task.completed - task.fields["done"], task.total
        left = None if total is None else total - task.completed
        unit, cost = task.fields["unit"], task.fields["cost"]
        text = _rates(new, task.fields["tokens"], left, seconds, unit, cost)
        if len(text) > self._room:
            text = _rates(new, 0, left, seconds, unit, cost)
        return Text(text, style="cyan")


class _Bar:
    def __init__(self, progress: bars.Progress, task_id: TaskID) -> None:
        self._progress, self._task_id, self._tokens = progress, task_id, 0

    def advance(self, n: int = 1, tokens: int = 0, cost: float = 0.0) -> None:
        self._tokens += tokens
        self._progress.update(self._task_id, advance=n, tokens=self._tokens, cost=cost, waiting="")

    def waits(self, why: str) -> None:
        self._progress.update(self._task_id, waiting=why)


class _Tell(logging.Handler):
    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(record.getMessage())


@contextmanager
def told_of_waiting(tell: Callable[[str], None]) -> Iterator[None]:
    """`tell` is called with whatever an engine waits for, also one in a worker."""
    handler, logger = _Tell(tell), logging.getLogger(WAITING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class Throttled:
    """Counts progress and passes itself to `tell`, at most once in so many seconds.

    n, tokens: counted since it was made, or since `tell` set them to 0. cost: as last given.
    """

    def __init__(self, seconds: float, tell: Callable[[Throttled], None]) -> None:
        self._between, self._tell = seconds, tell
        self._started = self._told = time.monotonic()
        self.n = self.tokens = 0
        self.cost = 0.0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def advance(self, n: int = 1, tokens: int = 0, cost: float = 0.0) -> None:
        self.n += n
        self.tokens += tokens
        self.cost = cost
        if time.monotonic() - self._told >= self._between:
            self.flush()

    def flush(self) -> None:
        self._told = time.monotonic()
        self._tell(self)


def _rates(
    new: float, tokens: int, left: float | None, seconds: float, unit: str, cost: float
) -> str:
    parts = [f"{new / seconds:,.1f} {unit}/s"]
    if tokens:
        parts.append(f"{tokens / seconds:,.0f} tokens/s")
    if cost:
        parts.append(f"cost {cost:,.2f}")
    if left is not None and new:
        parts.append(f"{_spell(left * seconds / new)} left")
    return ", ".join(parts)


def _spell(seconds: float) -> str:
    """`17 s`, `2 min 05 s`, `3 h 20 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


@contextmanager
def show_progress(
    console: Console, description: str, total: int | None, unit: str = "rows", done: int = 0
) -> Iterator[Progress]:
    """A bar with units/s, tokens/s and time left; plain lines where there is no terminal.

    done: units of `total` that were done before, which are not in the rate.
    """
    if not console.is_terminal:
        of = "" if total is None else f"/{total:,}"

        def print_line(bar: Throttled) -> None:
            now = done + bar.n
            left = None if total is None else total - now
            rates = _rates(bar.n, bar.tokens, left, bar.seconds, unit, bar.cost)
            console.print(f"  {description}: {now:,}{of} {unit}, {rates}", highlight=False)

        with told_of_waiting(lambda why: console.print(f"  {why}", highlight=False, markup=False)):
            yield Throttled(SECONDS_BETWEEN_LINES, print_line)  # a log file stays readable
        return
    # On a narrow terminal the bar shrinks and nothing wraps: redrawing needs one line.
    columns = (
        SpinnerColumn(),
        TextColumn(
            "{task.description}", table_column=Column(no_wrap=True, max_width=console.width // 4)
        ),
        BarColumn(bar_width=None, table_column=Column(max_width=24)),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        _Rates(console.width // 2),
    )
    with bars.Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(
            description,
            total=total,
            completed=done,
            tokens=0,
            cost=0.0,
            unit=unit,
            done=done,
            waiting="",
        )
        bar = _Bar(progress, task)
        with told_of_waiting(bar.waits):
            yield bar
