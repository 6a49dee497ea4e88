"""Have a student take an exam with each candidate as its only worked example.

in:  {"id": "q1-recall-0", "parent_id": "q1", "question": "1 + 2?", "rationale": "… <ans>3</ans>"}
     and items {"id": "v1", "question": "2 + 2?", "reference_answer": "4"}
out: {"id": "q1-recall-0", "parent_id": "q1", "question": "1 + 2?", "rationale": "… <ans>3</ans>",
      "score": 0.55, "n_items": 40, "parse_failures": 3}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from llm_distill.engines.asking_stage import AskingStage
from llm_distill.engines.base import SamplingSettings
from llm_distill.engines.requests import Job, make_job
from llm_distill.errors import DataError, nearest
from llm_distill.methods.answers import (
    AnswerKind,
    AnswerPlace,
    check_answer_in,
    extract_answer,
    judge,
)
from llm_distill.methods.examples import question_key, usable
from llm_distill.methods.final_answer import why_mostly_unreadable
from llm_distill.methods.in_context_score import Tally, mean_by
from llm_distill.methods.seeds import derive_seed
from llm_distill.prompts import load_template
from llm_distill.rows.columns import Row, by_task, check_references, task_of
from llm_distill.stage import Columns, Context, Model, Rows, RowsOutput, later_setting

Candidate = tuple[str, str, str]
"""Task, question and rationale: candidates with the same three share an exam."""

Exams = dict[Candidate, tuple[Row, list[Row]]]
"""For each different candidate: its first row, and the items that it is tried on."""


class ScoreInContext(AskingStage):
    """Scores each candidate by the student's accuracy with it as the single example in context.

    The student answers every item of the candidate's task, or with `match` those that are solved in
    the same way (Learning by Teaching, arXiv 2406.14629). The first `<ans>…</ans>` that it writes
    counts; without one the answer is wrong, and also counted in `parse_failures`. Items that ask
    the candidate's own question are left out. A candidate without a rationale, or with an `error`,
    is passed on without a score. Equal candidates are scored once. Of several students all answers
    count.
    """

    former_settings: ClassVar[Mapping[str, Any]] = {"racing": False, "quantile": 0.25}
    added_columns = ("score", "n_items", "parse_failures")
    version: ClassVar[int] = 2

    stage: Literal["score_in_context"]
    rows: Rows = Field(description="the stage whose rows are candidates: question and rationale")
    items: Rows = Field(description="the stage whose rows are the exam's items")
    model: Model | list[Model] = Field(description="the student, or several that are asked in turn")
    template: str = Field(description="the exam: reads `examples` (one candidate) and `question`")
    sampling: SamplingSettings = Field(
        SamplingSettings(temperature=0, max_tokens=256, stop=("\nQuestion:", "Question:")),
        description="how the student answers; the stops keep it from asking itself more",
    )
    answer_kind: AnswerKind = Field(
        "exact", description="how an answer is compared with the item's reference_answer"
    )
    answer_in: AnswerPlace = later_setting(
        "tag",
        "where an answer is read: tag: `<ans>`, and `\\boxed` of choices and mathematics; any: in "
        "whatever form it stands, see docs/answers.md",
    )
    match: str | None = later_setting(
        None, "a column, such as skills: only items with the candidate's value in it are asked"
    )
    n: int | None = later_setting(
        None, "the most items, drawn at random, the same for all candidates of a question", ge=1
    )

    @model_validator(mode="after")
    def _answers_have_a_place(self) -> Self:
        check_answer_in(self.answer_in, self.answer_kind)
        return self

    @field_validator("model")
    @classmethod
    def _are_different(cls, value: str | list[str]) -> str | list[str]:
        if isinstance(value, list) and not 0 < len(set(value)) == len(value):
            raise ValueError("name at least one student, and each once")
        return value

    def most_asked(self, rows: Mapping[str, int | None]) -> Mapping[str, tuple[int, int]] | None:
        candidates, items = rows[self.rows], rows[self.items]
        if candidates is None or items is None:
            return None
        each = candidates * (min(self.n, items) if self.n is not None else items)
        models = [self.model] if isinstance(self.model, str) else self.model
        return dict.fromkeys(models, (each, self.sampling.max_tokens))

    def required_columns(self) -> dict[str, set[str]]:
        matched = {self.match} if self.match is not None else set()
        needed = {self.rows: {"id", "question", "rationale", *matched}}
        asked = {"id", "question", "reference_answer", *matched}
        needed.setdefault(self.items, set()).update(asked)
        return needed

    def template_variables(self, inputs: Mapping[str, Columns]) -> dict[str, Columns]:
        return {self.template: self.offered(inputs[self.items], "examples")}

    def is_seeded(self) -> bool:
        return self.sampling.temperature > 0 or self.n is not None

    def run(self, context: Context) -> RowsOutput:
        return RowsOutput(self._rows(context), self.output_features(context))

    def _rows(self, context: Context) -> Iterator[Row]:
        """Every exam first, keeping only the tallies; then the candidates with theirs."""
        tallies = self._tallies(context)
        by_strategy: list[tuple[str, float]] = []
        unscored = repeated = 0
        seen: set[Candidate] = set()
        for row in context.each_row(self.rows):
            candidate = _candidate(row)
            tally = tallies[candidate] if candidate is not None else Tally()
            if candidate is not None:
                repeated += candidate in seen
                seen.add(candidate)
            if tally.score is None:
                unscored += 1
            else:
                by_strategy.append((str(row.get("strategy") or "all"), tally.score))
            yield {
                **row,
                "score": tally.score,
                "n_items": tally.n_items,
                "parse_failures": tally.parse_failures,
            }
        if not by_strategy:
            raise DataError(
                f"no candidate of '{self.rows}' has a score: none has a question, a rationale and "
                f"an item of '{self.items}' that asks something else"
            )
        if unscored:
            context.warn(f"{unscored} of {len(context.rows(self.rows))} candidates have no score")
        n_answers = sum(tally.n_items for tally in tallies.values())
        n_unreadable = sum(tally.parse_failures for tally in tallies.values())
        context.metrics.update(
            candidates_scored=len(tallies),
            candidates_repeated=repeated,
            unscored=unscored,
            answers=n_answers,
            parse_failures=n_unreadable,
            mean_score=mean_by(by_strategy),
        )

    def _tallies(self, context: Context) -> dict[Candidate, Tally]:
        exams = self._exams(context)
        tallies = {candidate: Tally() for candidate in exams}
        students = [self.model] if isinstance(self.model, str) else self.model
        by_student = {student: Tally() for student in students}
        total = sum(len(items) for _, items in exams.values())
        budget = self.budget(total * len(students))
        for student in students:  # one at a time in memory
            jobs = self._jobs(context, student, exams)
            for job, completion in self.ask(context, student, jobs, total, budget):
                if completion.error is not None:
                    continue
                candidate, reference = job.about
                ended = completion.finish_reason == "stop"
                answer = extract_answer(completion.text, self.answer_kind, ended, self.answer_in)
                verdict = judge(answer, reference, self.answer_kind)
                tallies[candidate].add(verdict)
                by_student[student].add(verdict)
        context.metrics.update(budget.figures())
        for student, tally in by_student.items():
            form = why_mostly_unreadable(
                tally.parse_failures, tally.n_items, self.answer_in == "any"
            )
            if form is not None:
                context.warn(f"model '{student}': {form}")
        if len(students) > 1:
            means = {student: tally.score for student, tally in by_student.items()}
            context.metrics["mean_score_of_student"] = means
        return tallies

    def _exams(self, context: Context) -> Exams:
        items = by_task(context.each_row(self.items))
        for group in items.values():
            check_references(group, self.items)
        exams: Exams = {}
        for row in context.each_row(self.rows):
            candidate = _candidate(row)
            if candidate is None or candidate in exams:
                continue
            if task_of(row) not in items:
                raise DataError(
                    f"'{self.items}' has no item of task '{task_of(row)}' (row {row['id']}); "
                    f"{nearest(task_of(row), items)}"
                )
            exams[candidate] = row, self._exam(row, items[task_of(row)], context.seed)
        return exams

    def _exam(self, row: Row, items: list[Row], seed: int) -> list[Row]:
        """The items that a candidate is tried on."""
        if self.match is not None:
            alike = [item for item in items if item[self.match] == row[self.match]]
            if not alike:
                raise DataError(
                    f"'{self.items}' has no item with {self.match} {row[self.match]!r} (row "
                    f"{row['id']}); add some, or leave out match"
                )
            items = alike
        own = question_key(row["question"])
        exam = [item for item in items if question_key(item["question"]) != own]
        if self.n is None or self.n >= len(exam):
            return exam
        drawn = sorted(exam, key=lambda item: derive_seed(seed, "exam", own, item["id"]))[: self.n]
        return [item for item in exam if item in drawn]

    def _jobs(
        self, context: Context, student: str, exams: Exams
    ) -> Iterator[Job[tuple[Candidate, str]]]:
        """One candidate's items are consecutive: they share all but the end of the prompt."""
        template = load_template(self.template)
        prompt_format = context.model(student).prompt_format
        for candidate, (row, exam) in exams.items():
            example = {**row, "rationale": row["rationale"].strip()}
            for index, item in enumerate(exam):
                values = self.values(item)
                values["examples"] = [example]
                seed = derive_seed(context.seed, row["id"], item["id"])
                about = candidate, item["reference_answer"]
                name = f"{row['id']}/{index}"
                yield make_job(name, about, template, values, prompt_format, self.sampling, seed)[0]


def _candidate(row: Row) -> Candidate | None:
    """None if there is nothing to show the student."""
    if not usable(row, ("question", "rationale")):
        return None
    return task_of(row), row["question"], row["rationale"].strip()
