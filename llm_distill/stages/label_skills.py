"""Have a model say which skills of its task's list each question needs.

in:  {"id": "train-0001", "task": "word_problems", "question": "Paul has 6 eggs and …"}
     and skills {"id": "word_problems/subtraction", "task": "word_problems", "skill": "subtraction"}
out: {"id": "train-0001", "task": "word_problems", "question": "Paul has 6 eggs and …",
      "skills": ["subtraction"], "error": null}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import Field

from llm_distill.engines.skill_stage import SkillStage
from llm_distill.methods.skills import (
    REASON_REGEX,
    LabelCounts,
    check_tasks,
    labels_regex,
    read_labels,
    skill_id,
    skill_lists,
)
from llm_distill.rows.columns import Row, task_of
from llm_distill.stage import Context, Rows, RowsOutput


class LabelSkills(SkillStage):
    """Labels each question with at most `max_skills` skills of its own task's list.

    Labels are read from `<skill>…</skill>`, separated by commas, and compared in one spelling. One
    that is not on the task's list is counted but never kept; a question without any other has empty
    `skills`. With kind: vllm or openai the model can only answer with the list.
    """

    added_columns = ("skills", "error")
    shown_columns = frozenset({"question"})
    stage: Literal["label_skills"]
    rows: Rows = Field(description="the stage whose rows are the questions")
    template: str = Field(description="reads `skills` (of the task), `question`, `max_skills`")
    max_skills: int = Field(5, ge=1, description="labels that a question can have")

    def is_seeded(self) -> bool:
        return self.sampling.temperature > 0

    def run(self, context: Context) -> RowsOutput:
        return RowsOutput(self._rows(context), self.output_features(context))

    def _rows(self, context: Context) -> Iterator[Row]:
        lists = skill_lists(context.each_row(self.skills), self.skills)
        check_tasks(context.each_row(self.rows), lists, self.skills)
        jobs = self.jobs(context, context.each_row(self.rows), lists)
        total = len(context.rows(self.rows))
        budget = self.budget(total)
        counts = LabelCounts(self.max_skills)
        questions: Counter[str] = Counter()
        for job, completion in self.ask(context, self.model, jobs, total, budget):
            row, skills = job.about, []
            task = task_of(row)
            if completion.error is None:
                skills = counts.sort(read_labels(completion.text), lists[task], task)
            questions.update(skill_id(task, skill) for skill in skills)
            yield {**row, "skills": skills, "error": completion.error or row.get("error")}
        every = (skill_id(task, skill) for task, skills in lists.items() for skill in skills)
        for note in counts.notes(self.model):
            context.warn(note)
        context.metrics.update(
            **budget.figures(),
            labels=questions.total(),
            **counts.figures(),
            questions_by_skill=[{"skill": name, "count": questions[name]} for name in every],
        )

    def form(self, skills: Sequence[str]) -> str:
        """The labels, then the reason."""
        return rf" ?{labels_regex(skills, self.max_skills)}\s?{REASON_REGEX}"
