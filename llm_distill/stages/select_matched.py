"""Draw random questions as often as a selection repeats its own: its size-matched control.

in:  {"id": "t9", "task": "sums", "question": "2 + 2?"} and, like, two rows with "source_id": "t1"
out: {"id": "t9/0", "parent_id": "t9", "source_id": "t9", "task": "sums", "question": "2 + 2?",
      "weight": 1.0}, and the same with the id "t9/1"
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llm_distill.errors import DataError
from llm_distill.methods.seeds import derive_seed
from llm_distill.methods.skill_selection import copies_by_task, selected
from llm_distill.rows.columns import Row, task_of
from llm_distill.stage import Context, Rows, RowsOutput, Stage


class SelectMatched(Stage):
    """Takes random questions instead of a selection's, task by task.

    There are as many rows and as many different questions, and each is repeated (or weighted) as
    often as a question of the selection: only which questions were chosen differs.
    """

    added_columns = ("id", "parent_id", "source_id", "weight")
    always_seeded = True
    stage: Literal["select_matched"]
    rows: Rows = Field(description="the stage whose rows are drawn from, as for the selection")
    like: Rows = Field(description="the selection, with `source_id` (and `weight`)")

    def required_columns(self) -> dict[str, set[str]]:
        return {self.rows: {"id"}, self.like: {"source_id"}}

    def may_be_empty(self) -> set[str]:
        return {self.like}

    def run(self, context: Context) -> RowsOutput:
        ids: dict[str, list[str]] = {}
        for row in context.each_row(self.rows):
            ids.setdefault(task_of(row), []).append(row["id"])
        chosen: dict[str, list[Row]] = {}
        for task, copies in copies_by_task(context.each_row(self.like)).items():
            there = ids.get(task, [])
            if len(there) < len(copies):
                raise DataError(
                    f"'{self.like}' has {len(copies)} different questions of task '{task}', and "
                    f"'{self.rows}' {len(there)}; give the rows that were selected from"
                )
            # By id, not by position: the same rows are drawn in any order.
            there.sort(key=lambda identity: derive_seed(context.seed, "select_matched", identity))
            for source, weights in zip(there, copies, strict=False):
                chosen[source] = [
                    {"id": f"{source}/{copy}", "weight": weight}
                    for copy, weight in enumerate(weights)
                ]
        context.drop("not selected", len(context.rows(self.rows)) - len(chosen))
        context.metrics.update(questions=len(chosen))
        rows = selected(context.each_row(self.rows), chosen)
        return RowsOutput(rows, self.output_features(context))
