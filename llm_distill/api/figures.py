"""What a stage measured, as plain mappings: one for each figure, ready for a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from llm_distill.evaluation.result_rows import Difference, ExamRow
from llm_distill.evaluation.results import Results

PlainRow = dict[str, Any]


def plain_rows(measured: Results) -> list[PlainRow]:
    """All figures of a stage, those of each table together."""
    return [
        *(_row("accuracy", _of_exam(row), row.as_figure) for row in measured.exam),
        *_differences("difference", measured.differences),
        *(row for by in measured.by for row in _by_column(by.column, by.rows, by.differences)),
        *(_row("lm-eval", dict(row.as_figure.labels), row.as_figure) for row in measured.harness),
        *(
            _row("agreement", {"figure": row.figure, "annotators": list(row.annotators)}, row)
            for row in measured.agreement
        ),
        *(_row("missing skills", {"skill": row.skill}, row.as_figure) for row in measured.skills),
        *(
            _row(own.title, dict(figure.labels), figure)
            for own in measured.own
            for figure in own.figures
        ),
    ]


def _by_column(
    column: str, rows: Sequence[ExamRow], differences: Sequence[Difference]
) -> Iterator[PlainRow]:
    for row in rows:
        labels = {**_of_exam(row), column: row.group}
        yield _row(f"accuracy by {column}", labels, row.as_figure)
    for found, plain in zip(
        differences, _differences(f"difference by {column}", differences), strict=True
    ):
        yield {**plain, column: found.group}


def _differences(table: str, rows: Sequence[Difference]) -> Iterator[PlainRow]:
    for row in rows:
        labels = {"model": row.model, "baseline": row.baseline, "shots": row.shots}
        yield {**_row(table, labels, row.as_figure), "p_value": row.p_value}


def _of_exam(row: ExamRow) -> PlainRow:
    return {"model": row.model, "shots": row.shots}


def _row(table: str, labels: PlainRow, figure: Any) -> PlainRow:
    return {
        "table": table,
        **labels,
        "value": figure.value,
        "low": figure.low,
        "high": figure.high,
        "n": figure.n,
    }
