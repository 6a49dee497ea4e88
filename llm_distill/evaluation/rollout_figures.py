"""The figures of rollouts as tables: a line for each round and group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_distill.evaluation.result_rows import Figure, Kind
from llm_distill.evaluation.results import FigureTable

Measures = tuple[tuple[str, str, Kind], ...]
"""Column, what it is called, and how it is written."""

WRITTEN: Measures = (
    ("n_rows", "rows", "number"),
    ("mean_tokens", "tokens", "number"),
    ("mean_characters", "characters", "number"),
    ("truncated", "cut", "share"),
    ("empty", "empty", "share"),
    ("repetition", "repeated", "share"),
)
COMPARED: Measures = (
    ("n_compared", "rows", "number"),
    ("reverse_kl", "reverse KL a token", "number"),
    ("reverse_kl_per_byte", "a byte", "number"),
    ("ess", "effective sample", "share"),
    ("shared_tokens", "shared tokens", "share"),
    ("shared_of_teacher", "teacher's mass", "share"),
    ("shared_of_student", "student's mass", "share"),
)
DRAWN = ("tokens", "cut", "repeated", "reverse KL a token")


def rollout_tables(rows: Sequence[Mapping[str, Any]], by: Sequence[str]) -> tuple[FigureTable, ...]:
    """rows: of `rollout_report`. by: the columns of its groups, the round apart."""
    found = [_table("rollouts", WRITTEN, rows, by)]
    scored = [row for row in rows if row["n_compared"]]
    if scored:
        found.append(_table("rollouts beside the teacher", COMPARED, scored, by))
    return tuple(found)


def _table(
    title: str, measures: Measures, rows: Sequence[Mapping[str, Any]], by: Sequence[str]
) -> FigureTable:
    figures = tuple(
        Figure(
            {"round": str(row["round"]), **{name: row[name] for name in by}, "figure": called},
            float(row[column]),
            row.get(f"{column}_low"),
            row.get(f"{column}_high"),
            kind=kind,
        )
        for row in rows
        for column, called, kind in measures
        if row[column] is not None
    )
    return FigureTable(title, figures, across="figure", over="round", drawn=DRAWN)


def listed(tables: Sequence[FigureTable]) -> str:
    """A line of text for each line of the tables: `round 2: rows 400, tokens 212, …`."""
    lines = []
    for table in tables:
        titles, n_names = table.columns, len(table.names)
        for cells in table.cells:
            named = zip(titles[n_names:], cells[n_names:], strict=True)
            who = ", ".join(filter(None, cells[:n_names]))
            lines.append(f"  round {who}: {', '.join(f'{t} {cell}' for t, cell in named if cell)}")
    return "\n".join(lines)
