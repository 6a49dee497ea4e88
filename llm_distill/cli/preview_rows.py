"""What `llm-distill preview` shows of each stage, in the terminal and as a page."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.text import Text

from llm_distill.cli.display import TerminalDisplay, console, quiet_libraries
from llm_distill.cli.run import show_before, stop_as_after_ctrl_c
from llm_distill.engines.budget import Budget
from llm_distill.errors import counted
from llm_distill.pipeline.load import load_pipeline
from llm_distill.preview.page import write_page
from llm_distill.preview.seen import Seen, SeenRow, seen
from llm_distill.preview.smaller import smaller
from llm_distill.preview.walk import Walk
from llm_distill.runtime.artifact import Artifact, Workspace
from llm_distill.runtime.plan import Decision

MOST_CHARACTERS = 600
"""Of a text in the terminal; the page has more."""


class PreviewDisplay(TerminalDisplay):
    """Bars and notes while stages run; what they gave is shown at the end."""

    def begins(self, decision: Decision) -> None:
        self.begun.append(decision.name)

    def ends(self, name: str, artifact: Artifact, state: str, seconds: float) -> None:
        self.ended.append(name)


def preview_rows(
    file: str,
    profile: str | None,
    assignments: Sequence[str],
    *,
    stage: str | None,
    n: int,
    max_cost: float | None,
    root: Path,
) -> None:
    """Walk the first `n` rows and show them; also where a stage stops it.

    Raises:
        LLMDistillError: see `preview.walk.Walk.run`.
    """
    quiet_libraries()
    stop_as_after_ctrl_c()
    pipeline = load_pipeline(file, profile=profile, assignments=assignments)
    fewer = smaller(pipeline, n, stage)
    out = console()
    display = PreviewDisplay(out)
    walk = Walk(fewer, pipeline, Workspace(root), display, Budget(max_cost))
    out.print(
        f"[bold]{pipeline.name}[/bold], the first {counted(n, 'row')} of "
        f"{escape(pipeline.source)}; kept in {escape(str(walk.workspace.root))}"
    )
    show_before(out, pipeline)
    try:
        walk.run()
    except KeyboardInterrupt:
        out.print("[yellow]stopped[/yellow]: what was answered is kept, and is not asked again")
        raise SystemExit(130) from None
    finally:
        stages = [seen(each, n) for each in walk.found]
        for each in stages:
            _show(each, out)
        if display.record is not None and stages:
            page = write_page(pipeline, stages, n, display.record.directory)
            out.print(f"as a page: {escape(str(page))}")


def _show(stage: Seen, out: Console) -> None:
    out.print()
    out.print(f"[bold]{stage.name}[/bold] [dim]{stage.kind}[/dim]  {escape(stage.facts)}")
    if stage.why:
        _indented(Text(f"passed over: {stage.why}", style="yellow"), 2, out)
    for note in stage.notes:
        _indented(Text(note, style="dim"), 2, out)
    for warning in stage.warnings:
        _indented(Text(f"warning: {warning}", style="yellow"), 2, out)
    for row in (*stage.rows, *stage.dropped):
        _show_row(row, out)


def _indented(text: Text, by: int, out: Console) -> None:
    """In a terminal also what goes on in the next line; elsewhere lines are as long as they are."""
    if out.is_terminal:
        out.print(Padding(text, (0, 0, 0, by), expand=False), soft_wrap=False)
    else:
        out.print(textwrap.indent(text.plain, " " * by), markup=False)


def _show_row(row: SeenRow, out: Console) -> None:
    head = Text(f"  {row.id}")
    if row.why is not None:
        head.append(f"  dropped: {row.why}", style="red")
    out.print(head)
    for name, value in row.texts.items():
        short = _short(value)
        if "\n" in short:
            _indented(Text(f"{name}:", style="cyan"), 4, out)
            _indented(Text(short), 6, out)
        else:
            _indented(Text.assemble((f"{name}: ", "cyan"), short), 4, out)


def _short(text: str) -> str:
    if len(text) <= MOST_CHARACTERS:
        return text
    more = len(text) - MOST_CHARACTERS
    return f"{text[:MOST_CHARACTERS]} … {more:,} more characters on the page"
