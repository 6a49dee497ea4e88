"""Keep the subtasks of hard tasks that can be posed by themselves.

in:  {"id": "q1-0-0", "question": "Ann has 9 pens and loses 3. How many are left?",
      "rationale": "9 - 3 = 6. <ans>6</ans>", "reference_answer": "6",
      "seed_rationale": "9 - 3 = 6. 6 + 4 = 10. <ans>10</ans>"}
out: the same with {"n_steps": 1}; without those that are none
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from llm_distill.methods.calculations import calculations
from llm_distill.methods.subtasks import subtask_problem
from llm_distill.rows.columns import Row
from llm_distill.stage import Context, Rows, RowsOutput, Stage


class CheckSubtasks(Stage):
    """Drops what a model has written as a subtask of a hard task and is none.

    A subtask has enough steps, not nearly all of the whole task's, and is posed by itself: what its
    solution calculates with is in its question, and the question does not point at another. Steps
    are the equations of numbers in a solution (`3 + 4 = 7`); solutions without any are dropped
    unless min_steps is 0, and then only the question's words are looked at.
    """

    added_columns = ("n_steps",)
    rows_may_be_empty = True

    stage: Literal["check_subtasks"]
    rows: Rows = Field(description="the stage whose rows are subtasks with solutions")
    whole_column: str = Field(
        "seed_rationale",
        description="the solution of the whole task; so it is called where `generate` has read the "
        "subtasks out of a model's text",
    )
    min_steps: int = Field(1, ge=0, description="calculations that a subtask has to have")
    max_share: float = Field(
        0.75, gt=0, le=1, description="more of the whole task's calculations make it no part"
    )
    constants: tuple[float, ...] = Field(
        (1, 2, 7, 10, 12, 24, 60, 100, 1000),
        description="numbers that a question need not give: of a clock, of units, of halves",
    )

    def required_columns(self) -> dict[str, set[str]]:
        return {self.rows: {"id", "question", "rationale", self.whole_column}}

    def read_as_text(self) -> dict[str, set[str]]:
        return {self.rows: {self.whole_column}}

    def remedy(self, column: str) -> str | None:
        if column != self.whole_column:
            return None
        return "name the column with the whole task's solution (whole_column)"

    def run(self, context: Context) -> RowsOutput:
        return RowsOutput(self._rows(context), self.output_features(context))

    def _rows(self, context: Context) -> Iterator[Row]:
        for row in self.each_row(context):
            question, rationale, whole = (
                str(row[name] or "") for name in ("question", "rationale", self.whole_column)
            )
            problem = subtask_problem(
                question,
                rationale,
                whole,
                least_steps=self.min_steps,
                most_share=self.max_share,
                known=self.constants,
            )
            if problem is None and question.strip():
                yield {**row, "n_steps": len(calculations(rationale))}
            else:
                context.drop(problem or "no question")
