"""`llm-distill compare`: what differs between two runs, as tables."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape

from llm_distill.cli.display import console, make_table, say
from llm_distill.report import differences
from llm_distill.report.collect import RunView, collect
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.record import read_run

LONGEST = 60
SHOWN = 2


def compare_command(first: str, second: str, root: Path) -> None:
    """Show how two runs differ in settings, stages and results."""
    workspace = Workspace(root)
    out = console()
    a, b = (
        collect(read_run(workspace, name, on_damaged=say), workspace) for name in (first, second)
    )
    for letter, run in (("A", a), ("B", b)):
        out.print(f"[bold]{letter}[/bold] {escape(run.record.described)}")
    if a.record.name == b.record.name:
        out.print("both are the same run")
        return
    _settings(a, b, out)
    _stages(a, b, out)
    _results(a, b, out)


def _settings(a: RunView, b: RunView, out: Console) -> None:
    found = differences.settings(a, b)
    if not found:
        out.print("settings: the same")
        return
    table = make_table("setting", "A", "B", title="settings")
    for each in found:
        table.add_row(*(escape(_short(text)) for text in each))
    out.print(table)


def _stages(a: RunView, b: RunView, out: Console) -> None:
    found = differences.stages(a, b)
    if not found:
        out.print("stages: the same artifacts")
        return
    table = make_table("stage", "A", "B", "why", title="stages that differ")
    for each in found:
        reasons = each.why(1)
        why = "; ".join(reasons[:SHOWN]) + ("; …" if len(reasons) > SHOWN else "")
        cells = (differences.described(stage) for stage in each.views)
        table.add_row(each.name, *map(escape, cells), escape(why))
    out.print(table)


def _results(a: RunView, b: RunView, out: Console) -> None:
    found = differences.figures(a, b)
    if not found:
        out.print("results: nothing was measured")
        return
    right = ("A", "B", "B − A")
    table = make_table("stage", "figure", right=right, title="results, 95 % interval")
    for each in found:
        values = (differences.ABSENT if of is None else str(of) for of in each.figures)
        table.add_row(each.stage, escape(each.of), *values, each.change)
    out.print(table)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
