"""Compare each answer with its reference.

in:  {"id": "a", "answer": "7.", "reference_answer": "7"}
out: {"id": "a", "answer": "7.", "reference_answer": "7", "is_correct": True}
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from llm_distill.methods.verified_rows import VerifySettings
from llm_distill.stage import Context, Rows, RowsOutput, Stage


class Verify(VerifySettings, Stage):
    """Marks each row's answer as right or wrong, and drops the wrong ones if asked to.

    A reference that does not equal itself by the chosen comparison (null or blank) cannot judge an
    answer: such rows are dropped and counted, with a warning. Metrics: accuracy over the others,
    and how many of them had no answer.
    """

    added_columns = ("is_correct",)
    rows_may_be_empty = True
    version: ClassVar[int] = 2

    stage: Literal["verify"]
    rows: Rows = Field(description="the stage whose rows are checked")

    def required_columns(self) -> dict[str, set[str]]:
        return {self.rows: {"id", self.answer_column, self.reference_column}}

    def run(self, context: Context) -> RowsOutput:
        rows = self.judged(self.each_row(context), context.drop, context.warn, context.metrics)
        return RowsOutput(rows, self.output_features(context))
