"""What was measured, as tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from llm_distill.cli.display import plain
from llm_distill.evaluation.result_rows import (
    AgreementRow,
    Difference,
    ExamRow,
    HarnessRow,
    SkillRow,
)
from llm_distill.evaluation.results import FigureTable, Results

MOST_SKILLS = 30


def result_tables(name: str, metrics: Mapping[str, Any]) -> list[Table]:
    """All that a stage measured: figures with intervals, differences, and tables of its own."""
    measured = Results.from_metrics(metrics)
    tables = []
    if measured.harness:
        tables.append(_harness_table(name, measured.harness))
    if measured.exam:
        tables.append(_accuracies(name, measured.exam))
    if measured.differences:
        tables.append(_differences(measured.differences))
    if measured.agreement:
        tables.append(_agreement_table(name, measured.agreement))
    if measured.skills:
        tables.append(_skill_table(name, measured.skills))
    return [*tables, *(_own_table(name, own) for own in measured.own)]


def _own_table(name: str, own: FigureTable) -> Table:
    table = Table(title=plain(f"{name}: {own.title}"), box=box.SIMPLE_HEAD)
    for index, column in enumerate(own.columns):
        table.add_column(plain(column), justify="left" if index < len(own.names) else "right")
    for cells in own.cells:
        table.add_row(*map(plain, cells))
    return table


def _accuracies(name: str, rows: Sequence[ExamRow]) -> Table:
    """One row a model and number of shots; with several answers an item pass@k and majority too."""
    samples = rows[0].samples or 1
    title = f"{name}: accuracy" if samples == 1 else f"{name}: accuracy (mean of {samples} answers)"
    table = Table("model", "shots", title=title, box=box.SIMPLE_HEAD)
    passes = list(rows[0].pass_at or ())
    sampled = [*(f"pass@{k}" for k in passes), f"majority@{samples}"] if samples > 1 else []
    columns = ("accuracy", "95 % interval", *sampled, "items", "unreadable", "truncated")
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        more = [*((row.pass_at or {}).get(k) for k in passes), row.majority] if samples > 1 else []
        table.add_row(
            row.model,
            _count(row.shots),
            row.as_figure.written,
            row.as_figure.interval,
            *("" if share is None else f"{share:.1%}" for share in more),
            _count(row.n),
            _count(row.parse_failures),
            _count(row.truncated),
        )
    return table


def _differences(rows: Sequence[Difference]) -> Table:
    table = Table("difference", "shots", title="paired, same items", box=box.SIMPLE_HEAD)
    for column in ("points", "95 % interval", "McNemar's p"):
        table.add_column(column, justify="right")
    for row in rows:
        found = row.as_figure
        p_value = _p_value(row.p_value)
        shots = _count(row.shots)
        table.add_row(found.labels["model"], shots, found.written, found.interval, p_value)
    return table


def _p_value(value: float | None) -> str:
    if value is None:
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _harness_table(name: str, rows: Sequence[HarnessRow]) -> Table:
    """Of `evaluate_lm_eval`: metrics of any kind and size."""
    table = Table("model", "task", "shots", "metric", title=name, box=box.SIMPLE_HEAD)
    for column in ("value", "95 % interval", "items"):
        table.add_column(column, justify="right")
    for row in rows:
        metric = row.metric if row.filter == "none" else f"{row.metric} ({row.filter})"
        figures = f"{row.value:.3f}", _interval(row), _count(row.n)
        table.add_row(row.model, plain(row.task), _count(row.shots), plain(metric), *figures)
    return table


def _agreement_table(name: str, rows: Sequence[AgreementRow]) -> Table:
    table = Table("figure", "annotators", title=f"{name}: agreement", box=box.SIMPLE_HEAD)
    for column in ("value", "95 % interval", "items"):
        table.add_column(column, justify="right")
    for row in rows:
        value = "undefined" if row.value is None else f"{row.value:.3f}"
        annotators = plain(", ".join(row.annotators))
        table.add_row(row.figure, annotators, value, _interval(row), _count(row.n))
    return table


def _skill_table(name: str, rows: Sequence[SkillRow]) -> Table:
    """Of `skill_profile`: what the student lacks, the most frequent first."""
    left = len(rows) - MOST_SKILLS
    more = f"and {left:,} more" if left > 0 else None
    table = Table(
        "missing skill", title=f"{name}: missing skills", caption=more, box=box.SIMPLE_HEAD
    )
    for column in ("questions", "weight", "95 % interval"):
        table.add_column(column, justify="right")
    for row in rows[:MOST_SKILLS]:
        weight = row.as_figure
        table.add_row(plain(row.id), f"{row.count:,}", weight.written, weight.interval)
    return table


def _interval(row: HarnessRow | AgreementRow) -> str:
    return "" if row.low is None or row.high is None else f"{row.low:.3f} to {row.high:.3f}"


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
