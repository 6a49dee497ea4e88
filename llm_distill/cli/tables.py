"""What was measured, as tables for the terminal."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from llm_distill.cli.display import make_table
from llm_distill.evaluation.result_rows import (
    AgreementRow,
    Difference,
    ExamRow,
    HarnessRow,
    SkillRow,
)
from llm_distill.evaluation.results import FigureTable, Results

MOST_SKILLS = 30


def result_tables(
    name: str, metrics: Mapping[str, Any], without: Collection[str] = ()
) -> list[Table]:
    """What a stage measured: figures with intervals, differences, and results of its own.

    The report also has its tables that describe data. without: titles of its own tables.
    """
    measured = Results.from_metrics(metrics)
    own_shown = [t for t in measured.own if not t.is_detail and t.title not in without]
    tables = []
    if measured.harness:
        tables.append(_harness_table(name, measured.harness))
    if measured.exam:
        tables.append(_accuracies(name, measured.exam, measured.notes))
    if measured.differences:
        tables.append(_differences(measured.differences))
    if measured.agreement:
        tables.append(_agreement_table(name, measured.agreement))
    if measured.skills:
        tables.append(_skill_table(name, measured.skills))
    return [*tables, *(_own_table(name, own) for own in own_shown)]


def _own_table(name: str, own: FigureTable) -> Table:
    columns, n_left = [*map(escape, own.columns)], len(own.names)
    title = escape(f"{name}: {own.title}")
    table = make_table(*columns[:n_left], right=columns[n_left:], title=title)
    for cells in own.cells:
        table.add_row(*map(escape, cells))
    return table


def _accuracies(name: str, rows: Sequence[ExamRow], notes: Sequence[str]) -> Table:
    """A row per model and number of shots; with several answers per item, pass@k and majority."""
    samples = rows[0].samples or 1
    title = f"{name}: accuracy" if samples == 1 else f"{name}: accuracy (mean of {samples} answers)"
    passes = list(rows[0].pass_at or ())
    sampled = [*(f"pass@{k}" for k in passes), f"majority@{samples}"] if samples > 1 else []
    forms = ["form"] if any(row.forms is not None for row in rows) else []
    failed = ["errors"] if any(row.errors for row in rows) else []
    asked = ("items", "unreadable", "truncated", *failed)
    right = ("accuracy", "95 % interval", *sampled, *asked, *forms)
    table = make_table("model", "shots", right=right, title=title)
    table.caption, table.caption_justify = escape("\n".join(notes)) or None, "left"
    for row in rows:
        more = [*((row.pass_at or {}).get(k) for k in passes), row.majority] if samples > 1 else []
        table.add_row(
            row.model,
            _count(row.shots),
            row.as_figure.written,
            row.as_figure.interval,
            *("" if share is None else f"{share:.1%}" for share in more),
            *map(_count, (row.n, row.parse_failures, row.truncated)),
            *([_count(row.errors)] if failed else []),
            *([row.written_forms] if forms else []),
        )
    return table


def _differences(rows: Sequence[Difference]) -> Table:
    right = ("points", "95 % interval", "McNemar's p")
    table = make_table("difference", "shots", right=right, title="paired, same items")
    for row in rows:
        found, p = row.as_figure, row.p_value
        p_value = "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"
        shots = _count(row.shots)
        table.add_row(found.labels["model"], shots, found.written, found.interval, p_value)
    return table


def _harness_table(name: str, rows: Sequence[HarnessRow]) -> Table:
    """Of `evaluate_lm_eval`: metrics of any kind and scale."""
    right = ("value", "95 % interval", "items")
    table = make_table("model", "task", "shots", "metric", right=right, title=name)
    for row in rows:
        metric = row.metric if row.filter == "none" else f"{row.metric} ({row.filter})"
        figures = f"{row.value:.3f}", _interval(row), _count(row.n)
        table.add_row(row.model, escape(row.task), _count(row.shots), escape(metric), *figures)
    return table


def _agreement_table(name: str, rows: Sequence[AgreementRow]) -> Table:
    right = ("value", "95 % interval", "items")
    table = make_table("figure", "annotators", right=right, title=f"{name}: agreement")
    for row in rows:
        value = "undefined" if row.value is None else f"{row.value:.3f}"
        annotators = escape(", ".join(row.annotators))
        table.add_row(row.figure, annotators, value, _interval(row), _count(row.n))
    return table


def _skill_table(name: str, rows: Sequence[SkillRow]) -> Table:
    """Of `skill_profile`: what the student lacks, the most frequent first."""
    right = ("questions", "weight", "95 % interval")
    table = make_table("missing skill", right=right, title=f"{name}: missing skills")
    left = len(rows) - MOST_SKILLS
    table.caption = f"and {left:,} more" if left > 0 else None
    for row in rows[:MOST_SKILLS]:
        weight = row.as_figure
        table.add_row(escape(row.id), f"{row.count:,}", weight.written, weight.interval)
    return table


def _interval(row: HarnessRow | AgreementRow) -> str:
    return "" if row.low is None or row.high is None else f"{row.low:.3f} to {row.high:.3f}"


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
