"""Sum up which skills a student lacks, and the weight of each.

in:  {"id": "validation-0001", "task": "word_problems", "missing_skills": ["subtraction"]}
out: {"id": "word_problems/subtraction", "task": "word_problems", "skill": "subtraction",
      "count": 15, "weight": 0.42, "weight_low": 0.33, "weight_high": 0.5,
      "question_ids": ["validation-0001", …]}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from llm_distill.errors import DataError
from llm_distill.evaluation.result_rows import SkillRow
from llm_distill.evaluation.results import Results
from llm_distill.methods.skill_profile import missing_skill_profile
from llm_distill.methods.skills import canonical, skill_id
from llm_distill.rows.columns import features, task_of
from llm_distill.stage import Columns, Context, Rows, RowsOutput, Stage

COLUMNS = (
    "id", "task", "skill", "count", "weight", "weight_low", "weight_high", "question_ids"
)  # fmt: skip


class SkillProfile(Stage):
    """Counts the missing skills, one row per task and skill, the most frequent first.

    `weight` is a skill's share of all labels of all tasks, with a 95 % interval bootstrapped over
    questions. Without difficult questions there are no rows, and a warning.
    """

    rows_may_be_empty = True
    stage: Literal["skill_profile"]
    rows: Rows = Field(description="questions with missing_skills, from find_missing_skills")

    def required_columns(self) -> dict[str, set[str]]:
        return {self.rows: {"id", "missing_skills"}}

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        return frozenset(COLUMNS)

    def run(self, context: Context) -> RowsOutput:
        questions = [
            (task_of(row), str(row["id"]), [canonical(s) for s in row["missing_skills"] or ()])
            for row in context.each_row(self.rows)
        ]
        found = missing_skill_profile(questions)
        if not questions:
            context.warn(
                f"'{self.rows}' has no rows: no question is difficult, or every answer was judged "
                "correct. The student is already right; there is nothing to teach"
            )
        elif not found:
            raise DataError(
                f"no missing skill is named for any of the {len(questions)} questions of "
                f"'{self.rows}'; its metrics count what was unreadable or not on the list"
            )
        skills = tuple(
            SkillRow(
                id=skill_id(item.task, item.skill),
                task=item.task,
                skill=item.skill,
                count=item.count,
                weight=item.weight.value,
                weight_low=item.weight.low,
                weight_high=item.weight.high,
            )
            for item in found
        )
        context.metrics.update(
            n_questions=len(questions),
            n_unlabelled=sum(not skills for _, _, skills in questions),
            n_labels=sum(item.count for item in found),
            **Results(skills=skills).to_metrics(),
        )
        rows = [
            {**vars(skill), "question_ids": list(item.question_ids)}
            for skill, item in zip(skills, found, strict=True)
        ]
        return RowsOutput(rows, features(COLUMNS))
