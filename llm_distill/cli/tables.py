"""What was measured, as tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from llm_distill.cli.display import plain
from llm_distill.evaluation.results import FigureTable, Results

MOST_SKILLS = 30


def result_tables(name: str, metrics: Mapping[str, Any]) -> list[Table]:
    """All that a stage measured: figures with intervals, differences, and tables of its own."""
    tables = []
    measured = Results.from_metrics(metrics)
    if harness := [row for row in measured.results if "metric" in row]:
        tables.append(_harness_table(name, harness))
    if exam := [row for row in measured.results if "accuracy" in row]:
        tables.append(_accuracies(name, exam))
    if measured.differences:
        table = Table("difference", "shots", title="paired, same items", box=box.SIMPLE_HEAD)
        for column in ("points", "95 % interval", "McNemar's p"):
            table.add_column(column, justify="right")
        for row in measured.differences:
            table.add_row(
                f"{row['model']} − {row['baseline']}",
                str(row["shots"]),
                f"{100 * row['difference']:+.1f}",
                f"{100 * row['low']:+.1f} to {100 * row['high']:+.1f}",
                _p_value(row.get("p_value")),
            )
        tables.append(table)
    if measured.agreement:
        tables.append(_agreement_table(name, measured.agreement))
    if measured.skills and all("weight_low" in row for row in measured.skills):
        tables.append(_skill_table(name, measured.skills))
    return [*tables, *(_own_table(name, own) for own in measured.own)]


def _own_table(name: str, own: FigureTable) -> Table:
    table = Table(title=plain(f"{name}: {own.title}"), box=box.SIMPLE_HEAD)
    for index, column in enumerate(own.columns):
        table.add_column(plain(column), justify="left" if index < len(own.names) else "right")
    for cells in own.cells:
        table.add_row(*map(plain, cells))
    return table


def _accuracies(name: str, results: Sequence[Mapping[str, Any]]) -> Table:
    """One row a model and number of shots; with several answers an item pass@k and majority too."""
    samples = results[0].get("samples", 1)
    title = f"{name}: accuracy" if samples == 1 else f"{name}: accuracy (mean of {samples} answers)"
    table = Table("model", "shots", title=title, box=box.SIMPLE_HEAD)
    passes = list(results[0].get("pass_at", {}))
    sampled = [*(f"pass@{k}" for k in passes), f"majority@{samples}"] if samples > 1 else []
    columns = ("accuracy", "95 % interval", *sampled, "items", "unreadable", "truncated")
    for column in columns:
        table.add_column(column, justify="right")
    for row in results:
        more = [*(row["pass_at"][k] for k in passes), row["majority"]] if samples > 1 else []
        table.add_row(
            row["model"],
            str(row["shots"]),
            f"{row['accuracy']:.1%}",
            f"{row['low']:.1%} to {row['high']:.1%}",
            *(f"{value:.1%}" for value in more),
            f"{row['n']:,}",
            f"{row['parse_failures']:,}",
            f"{row['truncated']:,}",
        )
    return table


def _p_value(value: float | None) -> str:
    if value is None:
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _harness_table(name: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Of `evaluate_lm_eval`: metrics of any kind and size."""
    table = Table("model", "task", "shots", "metric", title=name, box=box.SIMPLE_HEAD)
    for column in ("value", "95 % interval", "items"):
        table.add_column(column, justify="right")
    for row in rows:
        metric = row["metric"] if row["filter"] == "none" else f"{row['metric']} ({row['filter']})"
        shots = "" if row["shots"] is None else str(row["shots"])
        figures = f"{row['value']:.3f}", _interval(row), f"{row['n']:,}"
        table.add_row(row["model"], plain(row["task"]), shots, plain(metric), *figures)
    return table


def _agreement_table(name: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("figure", "annotators", title=f"{name}: agreement", box=box.SIMPLE_HEAD)
    for column in ("value", "95 % interval", "items"):
        table.add_column(column, justify="right")
    for row in rows:
        value = "undefined" if row["value"] is None else f"{row['value']:.3f}"
        annotators = plain(", ".join(row["annotators"]))
        table.add_row(row["figure"], annotators, value, _interval(row), f"{row['n']:,}")
    return table


def _skill_table(name: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Of `skill_profile`: what the student lacks, the most frequent first."""
    left = len(rows) - MOST_SKILLS
    more = f"and {left:,} more" if left > 0 else None
    table = Table(
        "missing skill", title=f"{name}: missing skills", caption=more, box=box.SIMPLE_HEAD
    )
    for column in ("questions", "weight", "95 % interval"):
        table.add_column(column, justify="right")
    for row in rows[:MOST_SKILLS]:
        interval = f"{row['weight_low']:.1%} to {row['weight_high']:.1%}"
        table.add_row(plain(row["id"]), f"{row['count']:,}", f"{row['weight']:.1%}", interval)
    return table


def _interval(row: Mapping[str, Any]) -> str:
    return "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
