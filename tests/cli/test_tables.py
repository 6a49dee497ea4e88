"""Results as tables for the terminal."""

from __future__ import annotations

import pytest

from llm_distill.cli.tables import result_tables
from llm_distill.evaluation.result_rows import ExamRow
from llm_distill.evaluation.results import Results


@pytest.mark.parametrize(("errors", "cells"), [((0, 0), None), ((0, 2), "2")])
def test_answers_that_failed_have_a_column_where_there_are_any(
    errors: tuple[int, int], cells: str | None
) -> None:
    """They count as wrong, and are not unreadable."""
    same = {"shots": 0, "accuracy": 0.5, "low": 0.4, "high": 0.6, "n": 9, "parse_failures": 0}
    exam = tuple(ExamRow(model=f"m{n}", errors=each, **same) for n, each in enumerate(errors))
    (table, *_) = result_tables("exam", Results(exam=exam).to_metrics())
    found = [list(column.cells)[1] for column in table.columns if column.header == "errors"]
    assert found == ([] if cells is None else [cells])
