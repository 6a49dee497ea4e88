"""Compare each answer with its reference.

in:  {"id": "a", "answer": "7.", "reference_answer": "7"}
out: {"id": "a", "answer": "7.", "reference_answer": "7", "is_correct": True}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from llm_distill.methods.answers import AnswerKind, answers_equal
from llm_distill.rows.columns import Row
from llm_distill.stage import Columns, Context, Rows, RowsOutput, Stage


class Verify(Stage):
    """Marks each row's answer as right or wrong, and drops the wrong ones if asked to.

    A reference that does not equal itself by the chosen comparison (a null or blank one) cannot
    judge an answer: such rows are dropped, counted and warned of. Metrics: accuracy over the
    others, and how many of them had no answer.
    """

    stage: Literal["verify"]
    rows: Rows = Field(description="the stage whose rows are checked")
    answer_column: str = Field("answer", description="what is checked; null counts as wrong")
    reference_column: str = Field("reference_answer", description="what counts as right")
    kind: AnswerKind = Field("exact", description="exact text, a choice's letter, or mathematics")
    drop_wrong: bool = Field(False, description="pass on right answers only")

    def required_columns(self) -> dict[str, set[str]]:
        return {self.rows: {"id", self.answer_column, self.reference_column}}

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        columns = inputs[self.rows]
        return None if columns is None else columns | {"is_correct"}

    def may_be_empty(self) -> set[str]:
        return {self.rows}

    def run(self, context: Context) -> RowsOutput:
        from llm_distill.rows.columns import features

        rows = context.rows(self.rows)
        return RowsOutput(self._checked(context), features(["is_correct"], like=rows.features))

    def _checked(self, context: Context) -> Iterator[Row]:
        right = total = unreadable = 0
        unusable: list[str] = []
        with context.progress("verify", len(context.rows(self.rows))) as bar:
            for row in context.each_row(self.rows):
                bar.advance()
                answer, reference = (
                    _text(row[self.answer_column]),
                    _text(row[self.reference_column]),
                )
                if reference is None or not answers_equal(reference, reference, self.kind):
                    unusable.append(str(row["id"]))
                    context.drop("unusable reference")
                    continue
                is_correct = answers_equal(answer, reference, self.kind)
                total += 1
                right += is_correct
                unreadable += answer is None
                if is_correct or not self.drop_wrong:
                    yield {**row, "is_correct": is_correct}
                else:
                    context.drop("no answer" if answer is None else "wrong answer")
        if unusable:
            context.warn(
                f"{len(unusable)} rows have a '{self.reference_column}' that does not equal "
                f"itself as {self.kind}, the first of them '{unusable[0]}'; they are dropped"
            )
        context.metrics.update(
            {
                "n": total,
                "accuracy": right / total if total else None,
                "parse_failures": unreadable,
                "unusable_references": len(unusable),
            }
        )


def _text(value: Any) -> str | None:
    """A number in the column (a class label, say) is compared as it is written."""
    return None if value is None else str(value)
