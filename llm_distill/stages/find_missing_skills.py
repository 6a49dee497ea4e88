"""Have a model say which skills a student lacks, from its answers to difficult questions.

in:  {"id": "validation-0001", "task": "word_problems", "question": "Ann has 9 keys. …",
      "completion": "9 + 3 = 12. <ans>12</ans>", "is_difficult": true}
     and skills {"id": "word_problems/subtraction", "task": "word_problems", "skill": "subtraction"}
out: {… "judge": "incorrect", "reason": "It adds where …", "missing_skills": ["subtraction"],
      "error": null}
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import Field

from llm_distill.engines.skill_stage import SkillStage
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
from llm_distill.stage import Context, Rows, RowsOutput

VERDICTS = ("correct", "incorrect")


class FindMissingSkills(SkillStage):
    """Shows a model the student's answers to difficult questions, and keeps the skills it names.

    Rows that are not difficult are dropped, and so are random ones over `max_questions`.
    `<judge>`, `<reason>` and `<skill>` are read. A skill that is not on the task's list is counted
    but never kept. An answer that the model judges to be correct, though the question was
    difficult, is counted, and dropped or kept. With kind: vllm or openai the model can only answer
    with the list.
    """

    added_columns = ("judge", "reason", "missing_skills", "error")
    shown_columns = frozenset({"question", "completion", "is_difficult"})
    rows_may_be_empty = True
    always_seeded = True
    stage: Literal["find_missing_skills"]
    rows: Rows = Field(description="the student's answers, from assess")
    template: str = Field(
        description="reads `skills` (of the task), `question`, `completion`, `max_skills`"
    )
    max_skills: int = Field(3, ge=1, description="skills that can be named for a question")
    max_questions: int = Field(
        500, ge=1, description="how many difficult questions are shown, drawn at random"
    )
    if_judged_correct: Literal["drop", "keep"] = Field(
        "drop", description="what happens to answers that the model judges to be correct"
    )
    empty_completion: str = Field(
        "(no answer)", min_length=1, description="what is shown if the student wrote nothing"
    )

    def run(self, context: Context) -> RowsOutput:
        return RowsOutput(self._rows(context), self.output_features(context))

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

    def _rows(self, context: Context) -> Iterator[Row]:
        lists = skill_lists(context.each_row(self.skills), self.skills)
        chosen = self._chosen(context)

        def shown() -> Iterator[Row]:
            return (row for row in context.each_row(self.rows) if row["id"] in chosen)

        check_tasks(shown(), lists, self.skills)
        jobs = self.jobs(context, shown(), lists)
        budget = self.budget(len(chosen))
        counts = LabelCounts(self.max_skills)
        n_correct = n_unjudged = n_labels = 0
        for job, completion in self.ask(context, self.model, jobs, len(chosen), budget):
            row, judge, reason, missing = job.about, None, None, []
            if completion.error is None:
                judge = _verdict(completion.text)
                reason = read_tag(completion.text, "reason")
                n_unjudged += judge is None
                n_correct += judge == "correct"
                if judge == "correct" and self.if_judged_correct == "drop":
                    context.drop("judged correct")
                    continue
                task = task_of(row)
                missing = counts.sort(read_labels(completion.text), lists[task], task)
            n_labels += len(missing)
            yield {
                **row,
                "judge": judge,
                "reason": reason,
                "missing_skills": missing,
                "error": completion.error or row.get("error"),
            }
        for note in counts.notes(self.model):
            context.warn(note)
        context.metrics.update(
            **budget.figures(),
            judged_correct=n_correct,
            no_verdict=n_unjudged,
            labels=n_labels,
            **counts.figures(),
        )

    def stand_ins(self, row: Row) -> dict[str, str]:
        """A stand-in for a blank completion, which would not be rendered."""
        is_blank = not str(row["completion"] or "").strip()
        return {"completion": self.empty_completion} if is_blank else {}

    def form(self, skills: Sequence[str]) -> str:
        """The reason, the verdict that follows, the skills."""
        verdict = rf"<judge>({'|'.join(VERDICTS)})</judge>"
        return rf" ?{REASON_REGEX}\s?{verdict}\s?{labels_regex(skills, self.max_skills)}"


def _verdict(text: str) -> str | None:
    judge = canonical(read_tag(text, "judge") or "")
    return judge if judge in VERDICTS else None
