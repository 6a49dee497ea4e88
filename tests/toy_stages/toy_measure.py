"""Measures rows in figures of its own: the mean length of their questions, in characters."""

from __future__ import annotations

from typing import Any, Literal

from llm_distill.evaluation.results import Figure, FigureTable, shown
from llm_distill.stage import Columns, Context, Rows, RowsOutput, Stage


class ToyMeasure(Stage):
    """Passes its rows on and shows a table that no renderer knows of."""

    stage: Literal["toy_measure"]
    rows: Rows

    def output_columns(self, inputs: Any) -> Columns:
        columns: Columns = inputs[self.rows]
        return columns

    def run(self, context: Context) -> RowsOutput:
        rows = context.rows(self.rows)
        lengths = [len(text) for text in rows["question"]]
        mean = sum(lengths) / len(lengths)
        figure = Figure({"column": "question"}, mean, min(lengths), max(lengths), len(lengths))
        context.metrics.update(shown(FigureTable("length of texts", (figure,))))
        return RowsOutput(iter(rows), rows.features)
