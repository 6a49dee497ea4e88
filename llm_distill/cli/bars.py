"""Work that goes on: lines at the foot of a terminal, plain lines in a file.

    ⠙ stage 7 of 28, drafts: 1 min 05 s; the run so far: 1,200 requests, 150,000 tokens
      generate (teacher) ━━━━━━━━━━━━━━━━ 120/400 rows, 6.1 rows/s, 790 tokens/s, 46 s left

Nothing is cut: what does not fit into one line goes on in the next.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from llm_distill.manifest import Pace
from llm_distill.runtime.progress import Work, every, spelled, told_of_waiting

SECONDS_BETWEEN_LINES = 5.0
SECONDS_OF_SILENCE = 2.0
"""After which a piece of work is named where there is no terminal."""
SECONDS_WITHOUT_NEWS = 60.0
"""After which it is named again."""
TURNING = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
BAR, LEAST_BAR = 24, 8
"""Columns."""


def figures(work: Work) -> str:
    """`120/400 rows, 6.1 rows/s, 790 tokens/s, cost 0.10, 46 s left`; only what is known."""
    if work.total is None and not work.now:
        return spelled(work.seconds)
    of = "" if work.total is None else f"/{work.total:,}"
    parts = [f"{work.now:,}{of} {work.unit}"]
    rates, left = work.rates(), work.left()
    if rates is not None:
        parts.append(f"{_rate(rates[0])} {work.unit}/s")
        if rates[1]:
            parts.append(f"{rates[1]:,.0f} tokens/s")
    if work.cost:
        parts.append(f"cost {work.cost:,.2f}")
    if left is not None and work.now != work.total:
        parts.append(f"{spelled(left)} left")
    return ", ".join(parts)


def _rate(a_second: float) -> str:
    """`12.3`, or of a large model's steps `0.034`."""
    return f"{a_second:,.1f}" if a_second >= 1 else f"{a_second:.2g}"


@dataclass
class Foot:
    """The lines at the foot of a terminal. headline: called at each redrawing."""

    console: Console
    headline: Callable[[], str] = lambda: ""
    works: list[Work] = field(default_factory=list)
    _live: Live | None = None

    def show(self) -> None:
        if self._live is None:
            self._live = Live(
                console=self.console,
                get_renderable=self.drawn,
                transient=True,
                refresh_per_second=10,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()

    def hide(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def drawn(self) -> RenderableType:
        lines: list[RenderableType] = []
        spin = (TURNING[int(time.monotonic() * 10) % len(TURNING)], "green")
        head = self.headline()
        width = self.console.width
        if head:
            lines.append(Text.assemble(spin, " ", head, overflow="fold"))
        for work in list(self.works):
            lines.extend(_lines(work, Text("  ") if head else Text.assemble(spin, " "), width))
        return Group(*lines)


def _lines(work: Work, margin: Text, width: int) -> Iterator[RenderableType]:
    if work.waiting:
        yield Text.assemble(margin, (work.waiting, "yellow"), overflow="fold")
        return
    told = figures(work)
    room = width - len(margin) - cell_len(work.description) - cell_len(told) - 2
    if room < LEAST_BAR:  # the figures get a line of their own
        yield Text.assemble(margin, work.description, overflow="fold")
        margin, room = Text("  "), width - 2 - cell_len(told) - 1
        name = Text()
    else:
        name = Text(work.description + " ")
    row: list[RenderableType] = [Text.assemble(margin, name, overflow="fold")]
    if room >= LEAST_BAR:
        row.append(
            ProgressBar(work.total, work.now, width=min(BAR, room), pulse=work.total is None)
        )
        row.append(Text(f" {told}", style="cyan"))
    else:
        row = [Text.assemble(margin, (told, "cyan"), overflow="fold")]
    grid = Table.grid()
    for _ in row:
        grid.add_column(no_wrap=False, overflow="fold")
    grid.add_row(*row)
    yield grid


@contextmanager
def on_terminal(
    foot: Foot, description: str, total: int | None, unit: str, done: int, last: Pace | None
) -> Iterator[Work]:
    """A line at the foot, below those of the work that this is a part of."""
    work = Work(description, total, unit, done, last)

    def wait(why: str) -> None:
        work.waiting = why

    foot.works.append(work)
    was_hidden = foot._live is None
    foot.show()
    try:
        with told_of_waiting(wait) if len(foot.works) == 1 else nullcontext():
            yield work
    finally:
        foot.works.remove(work)
        if was_hidden:
            foot.hide()


class Lines:
    """Prints what is known of a piece of work now and then, for a file that stays readable."""

    def __init__(self, console: Console, after: str) -> None:
        self._console, self._after = console, after
        self._lock = threading.Lock()
        self._told: float | None = None

    def advanced(self, work: Work) -> None:
        self._tell_after(work, SECONDS_BETWEEN_LINES)

    def look(self, work: Work) -> None:
        """Say that it goes on, if nothing has been said for long."""
        self._tell_after(work, SECONDS_OF_SILENCE if self._told is None else SECONDS_WITHOUT_NEWS)

    def _tell_after(self, work: Work, seconds: float) -> None:
        with self._lock:
            now = time.monotonic()
            if now - (work.started if self._told is None else self._told) < seconds:
                return
            self._told = now
            self._console.print(
                f"  {work.description}: {figures(work)}{self._after}",
                highlight=False,
                markup=False,
            )


@contextmanager
def in_lines(
    console: Console,
    description: str,
    total: int | None,
    unit: str = "rows",
    done: int = 0,
    last: Pace | None = None,
    after: str = "",
    waits: bool = True,
) -> Iterator[Work]:
    """Lines for work that takes longer than two seconds, then every few seconds with news."""
    lines = Lines(console, after)
    work = Work(description, total, unit, done, last, lines.advanced)
    with ExitStack() as stack:
        if waits:
            stack.enter_context(
                told_of_waiting(
                    lambda why: console.print(f"  {why}", highlight=False, markup=False)
                )
            )
        stack.enter_context(every(SECONDS_OF_SILENCE, lambda: lines.look(work)))
        yield work


def show_progress(
    console: Console, description: str, total: int | None = None, unit: str = "rows", done: int = 0
) -> AbstractContextManager[Work]:
    """A bar with what is known of it; plain lines where there is no terminal.

    done: units of `total` that were done before, which are not in the rate.
    """
    if console.is_terminal:
        return on_terminal(Foot(console), description, total, unit, done, None)
    return in_lines(console, description, total, unit, done)
