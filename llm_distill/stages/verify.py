"""Compare each answer with its reference.

in:  {"id": "a", "answer": "7.", "reference_answer": "7"}
out: {"id": "a", "answer": "7.", "reference_answer": "7", "is_correct": True}

with steps_column: rationale, where it is "3 + 3 = 7. <ans>7</ans>", also
     {"step_errors": 1, "n_steps": 1}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from llm_distill.evaluation.step_figures import with_step_figures
from llm_distill.methods.verified_rows import VerifySettings
from llm_distill.rows.columns import features
from llm_distill.stage import Columns, Context, Rows, RowsOutput, Stage


class Verify(VerifySettings, Stage):
    """Marks each row's answer as right or wrong, and drops the wrong ones if asked to.

    A reference that does not equal itself by the chosen comparison (null or blank) cannot judge an
    answer: such rows are dropped and counted, with a warning. Metrics: accuracy over the others,
    and how many of them had no answer.

    With `steps_column` the equations of numbers in a rationale are checked as well: what share of
    them is wrong, of all rows and of those with a right and a wrong answer.
    """

    rows_may_be_empty = True
    version: ClassVar[int] = 2

    stage: Literal["verify"]
    rows: Rows = Field(description="the stage whose rows are checked")

    def required_columns(self) -> dict[str, set[str]]:
        return {self.rows: {"id", *self.read_columns()}}

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        columns = inputs[self.rows]
        return None if columns is None else columns.union(self.verdict_columns())

    def most_rows(self, rows: Mapping[str, int | None]) -> int | None:
        return rows[self.rows]

    def run(self, context: Context) -> RowsOutput:
        judged = self.judged(self.each_row(context), context.drop, context.warn, context.metrics)
        rows = with_step_figures(judged, context.metrics)
        given = context.rows(self.rows).features
        return RowsOutput(rows, features(self.verdict_columns(), like=given))
