"""Keep the questions whose sampled solutions agree, with the solutions that do.

in:  {"id": "q1-0", "parent_id": "q1", "answer": "7"}, {"id": "q1-1", "parent_id": "q1",
      "answer": "8"}, {"id": "q1-2", "parent_id": "q1", "answer": "7."}
out: {"id": "q1-0", "parent_id": "q1", "answer": "7", "agreement": 2, "reference_answer": "7"},
     {"id": "q1-2", "parent_id": "q1", "answer": "7.", "agreement": 2, "reference_answer": "7"}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from llm_distill.errors import DataError
from llm_distill.methods.answers import AnswerKind
from llm_distill.methods.sampled_answers import consensus
from llm_distill.rows.columns import Row
from llm_distill.stage import Context, Rows, RowsOutput, Stage

Agreed = dict[str, tuple[int, str]]
"""By the id of a kept row: how many solutions agree, and on which answer."""


class Consensus(Stage):
    """Keeps a question's solutions that have the same final answer, if there are enough of them.

    Rows with the same `parent_id` are the solutions of a question. The answer that at least
    `min_agreement` of them give becomes its `reference_answer`; `agreement` says how many do. A
    missing answer agrees with nothing. A question whose most common answers are tied is dropped.
    What is dropped is counted by reason.
    """

    added_columns = ("agreement", "reference_answer")
    former_settings: ClassVar[Mapping[str, Any]] = {"answer_column": "answer"}
    rows_may_be_empty = True
    version: ClassVar[int] = 2

    stage: Literal["consensus"]
    rows: Rows = Field(description="the stage whose rows are solutions")
    min_agreement: int = Field(2, ge=1, description="how many solutions must give the same answer")
    answer_kind: AnswerKind = Field("exact", description="how two answers are compared")

    def required_columns(self) -> dict[str, set[str]]:
        return {self.rows: {"id", "parent_id", "answer"}}

    def run(self, context: Context) -> RowsOutput:
        return RowsOutput(self._rows(context), self.output_features(context))

    def _rows(self, context: Context) -> Iterator[Row]:
        agreed, reasons = self._agreed(context)
        for row in context.each_row(self.rows):
            found = agreed.get(row["id"])
            if found is not None:
                agreement, answer = found
                yield {**row, "agreement": agreement, "reference_answer": answer}
                continue
            answered = str(row["answer"] or "").strip()
            other = "another answer" if answered else "no answer"
            context.drop(reasons.get(row["parent_id"], other))

    def _agreed(self, context: Context) -> tuple[Agreed, dict[str, str]]:
        """The rows that agree, and by question the reason why all its rows are dropped."""
        questions: dict[str, list[tuple[str, str | None]]] = {}
        for row in context.each_row(self.rows):
            if row["parent_id"] is None:
                raise DataError(f"row {row['id']} of '{self.rows}' has no parent_id, its question")
            text = None if row["answer"] is None else str(row["answer"])
            questions.setdefault(row["parent_id"], []).append((row["id"], text))
        agreed: Agreed = {}
        reasons: dict[str, str] = {}
        for question, solutions in questions.items():
            answers = [answer for _, answer in solutions]
            same, reason = consensus(answers, self.min_agreement, self.answer_kind)
            if reason is not None:
                reasons[question] = reason
            for index in same:
                agreed[solutions[index][0]] = len(same), str(answers[same[0]]).strip()
        context.metrics.update(
            questions=len(questions),
            kept_questions=len(questions) - len(reasons),
            dropped_questions=dict(Counter(reasons.values())),
        )
        most = max(map(len, questions.values()), default=0)
        if questions and most < self.min_agreement:
            context.warn(
                f"no question of '{self.rows}' has more than {most} solutions, and min_agreement "
                f"is {self.min_agreement}; raise n of the stage that samples them"
            )
        return agreed, reasons
