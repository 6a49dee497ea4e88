"""An exam whose results are written beforehand: how many of 40 items are right in each round."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from llm_distill.rows.columns import Row
from llm_distill.stage import Columns, Context, Model, Rows, RowsOutput, Stage

N_ITEMS = 40


class ToyExam(Stage):
    """The number of the round is read off the model's name."""

    needs_weights = True
    stage: Literal["toy_exam"]
    rows: Rows
    model: Model
    right: tuple[int, ...]
    other_items: bool = False
    with_nulls: bool = False
    with_error: bool = False

    def output_columns(self, inputs: Any) -> Columns:
        return frozenset({"id", "is_correct", "error"})

    def run(self, context: Context) -> RowsOutput:
        from datasets import Features, Value

        types = Features(
            {"id": Value("string"), "is_correct": Value("bool"), "error": Value("string")}
        )
        return RowsOutput(self._rows(), types)

    def _rows(self) -> Iterator[Row]:
        number = int(self.model.partition("@")[2])
        for index in range(N_ITEMS):
            name = f"{number}-{index}" if self.other_items else str(index)
            right = None if self.with_nulls else index < self.right[number - 1]
            error = "timeout" if self.with_error and index == 1 else None
            yield {"id": name, "is_correct": right, "error": error}
