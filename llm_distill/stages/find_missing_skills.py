"""Have a model say which skills a student lacks, from its answers to difficult questions.

in:  {"id": "validation-0001", "task": "word_problems", "question": "Ann has 9 keys. …",
      "completion": "9 + 3 = 12. <ans>12</ans>", "is_difficult": true}
     and skills {"id": "word_problems/subtraction", "task": "word_problems", "skill": "subtraction"}
out: {… "judge": "incorrect", "reason": "It adds where …", "missing_skills": ["subtraction"],
      "error": null}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pydantic import Field

from llm_distill.engines.asking_stage import AskingStage
from llm_distill.engines.base import SamplingSettings
from llm_distill.engines.requests import Job
from llm_distill.engines.skill_requests import skill_jobs
from llm_distill.methods.parsing import read_tag
from llm_distill.methods.seeds import derive_seed
from llm_distill.methods.skills import (
    REASON_REGEX,
    LabelCounts,
    canonical,
    check_tasks,
    labels_regex,
    read_labels,
    skill_lists,
)
from llm_distill.rows.columns import Row, task_of
from llm_distill.stage import Columns, Context, Model, Rows, RowsOutput

VERDICTS = ("correct", "incorrect")


class FindMissingSkills(AskingStage):
    """Shows a model the student's answers to difficult questions, and keeps the skills it names.

    Rows that are not difficult are dropped, and so are random ones over `max_questions`.
    `<judge>`, `<reason>` and `<skill>` are read. A skill that is not on the task's list is counted
    but never kept. An answer that the model judges to be correct, though the question was
    difficult, is counted, and dropped or kept. With kind: vllm or openai the model can only answer
    with the list.
    """

    added_columns = ("judge", "reason", "missing_skills", "error")
    stage: Literal["find_missing_skills"]
    rows: Rows = Field(description="the student's answers, from assess")
    skills: Rows = Field(description="the list: discover_skills or load_skills")
    model: Model = Field(description="the teacher")
    template: str = Field(
        description="reads `skills` (of the task), `question`, `completion`, `max_skills`"
    )
    max_skills: int = Field(3, ge=1, description="skills that can be named for a question")
    max_questions: int = Field(
        500, ge=1, description="the most difficult questions to show, drawn at random"
    )
    if_judged_correct: Literal["drop", "keep"] = Field(
        "drop", description="what happens to answers that the model judges to be correct"
    )
    empty_completion: str = Field(
        "(no answer)", min_length=1, description="what is shown if the student wrote nothing"
    )
    constrain: bool = Field(
        True, description="constrain answers to the list, with kind: vllm or a server that can"
    )
    sampling: SamplingSettings = Field(
        SamplingSettings(temperature=0), description="how the model answers"
    )

    def required_columns(self) -> dict[str, set[str]]:
        needed = {self.rows: {"id", "question", "completion", "is_difficult"}}
        return {**needed, self.skills: {"id", "skill", *needed.get(self.skills, ())}}

    def template_variables(self, inputs: Mapping[str, Columns]) -> dict[str, Columns]:
        return {self.template: self.offered(inputs[self.rows], "skills", "max_skills")}

    def is_seeded(self) -> bool:
        return True

    def may_be_empty(self) -> set[str]:
        return {self.rows}

    def run(self, context: Context) -> RowsOutput:
        lists = skill_lists(context.each_row(self.skills), self.skills)
        chosen = self._chosen(context)
        shown = (row for row in context.each_row(self.rows) if row["id"] in chosen)
        check_tasks(shown, lists, self.skills)
        return RowsOutput(self._rows(context, lists, chosen), self.output_features(context))

    def _chosen(self, context: Context) -> set[str]:
        """The ids of the difficult questions that are shown; the others are counted."""
        difficult = []
        for row in context.each_row(self.rows):
            if row["is_difficult"]:
                difficult.append(str(row["id"]))
            else:
                is_known = row["is_difficult"] is not None
                context.drop("not difficult" if is_known else "is_difficult is null")
        drawn = sorted(difficult, key=lambda i: derive_seed(context.seed, "find_missing_skills", i))
        chosen = set(drawn[: self.max_questions])
        context.drop("over max_questions", len(difficult) - len(chosen))
        context.metrics["n_difficult"] = len(difficult)
        return chosen

    def _rows(
        self, context: Context, lists: Mapping[str, list[str]], chosen: set[str]
    ) -> Iterator[Row]:
        budget = self.budget(len(chosen))
        counts = LabelCounts(self.max_skills)
        n_correct = n_unjudged = n_labels = 0
        for job, completion in self.ask(
            context, self.model, self._jobs(context, lists, chosen), len(chosen), budget
        ):
            row, judge, reason, missing = job.about, None, None, []
            if completion.error is None:
                judge = _verdict(completion.text)
                reason = read_tag(completion.text, "reason")
                n_unjudged += judge is None
                n_correct += judge == "correct"
                if judge == "correct" and self.if_judged_correct == "drop":
                    context.drop("judged correct")
                    continue
                missing = counts.sort(read_labels(completion.text), lists[task_of(row)])
            n_labels += len(missing)
            yield {
                **row,
                "judge": judge,
                "reason": reason,
                "missing_skills": missing,
                "error": completion.error or row.get("error"),
            }
        context.metrics.update(
            **budget.figures(),
            judged_correct=n_correct,
            no_verdict=n_unjudged,
            labels=n_labels,
            **counts.figures(),
        )

    def _jobs(
        self, context: Context, lists: Mapping[str, list[str]], chosen: set[str]
    ) -> Iterator[Job[Row]]:
        rows = (row for row in context.each_row(self.rows) if row["id"] in chosen)
        return skill_jobs(self, context, rows, lists, self._form, self._shown)

    def _shown(self, row: Row) -> dict[str, str]:
        """A stand-in for a blank completion, which would not be rendered."""
        is_blank = not str(row["completion"] or "").strip()
        return {"completion": self.empty_completion} if is_blank else {}

    def _form(self, skills: Sequence[str]) -> str:
        """A regular expression: the reason, the verdict that follows, the skills."""
        verdict = rf"<judge>({'|'.join(VERDICTS)})</judge>"
        return rf" ?{REASON_REGEX}\s?{verdict}\s?{labels_regex(skills, self.max_skills)}"


def _verdict(text: str) -> str | None:
    judge = canonical(read_tag(text, "judge") or "")
    return judge if judge in VERDICTS else None
