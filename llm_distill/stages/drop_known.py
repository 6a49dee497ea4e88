"""Drop the questions that a student already answers.

in:  {"id": "n1", "question": "9 - 3?", "reference_answer": "6"},
     {"id": "n2", "question": "2 + 2?", "reference_answer": "4"}
out: {"id": "n1", "question": "9 - 3?", "reference_answer": "6", "student_accuracy": 0.0}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Literal, Self

from pydantic import Field, model_validator

from llm_distill.engines.asking_stage import AskingStage
from llm_distill.engines.base import SamplingSettings
from llm_distill.engines.requests import Job, make_job
from llm_distill.errors import DataError, counted
from llm_distill.methods.answers import AnswerKind, AnswerPlace, check_answer_in, extract_answer
from llm_distill.methods.answers import judge as is_right
from llm_distill.methods.examples import question_key
from llm_distill.methods.seeds import derive_seed
from llm_distill.prompts import load_template
from llm_distill.rows.columns import Row, task_of
from llm_distill.stage import Columns, Context, Model, Rows, RowsOutput

Question = tuple[str, str]
"""Its task and its text without case and spacing."""


class DropKnown(AskingStage):
    """Asks the student each question, and keeps the rows that it does not answer rightly.

    A question counts as known if `n_right` of the `samples` answers are right: all of them unless
    told otherwise. `student_accuracy` is their share. A question that several rows ask is asked
    once, and each row is judged by its own reference. Rows without a reference or a question, and
    questions on which the student failed, cannot be judged: they are dropped and counted.

    If the student knows all that can be judged, no row is passed on, with a warning: nothing is
    left to teach, and the stages after it (`if_no_rows: keep_model` of a training) can go on with
    that. Where no row can be judged, the run stops.
    """

    added_columns = ("student_accuracy",)
    rows_may_be_empty = True
    stage: Literal["drop_known"]
    rows: Rows = Field(description="questions with their answers: question and reference_answer")
    model: Model = Field(description="the student")
    template: str = Field(description="the prompt: reads `question`, as the exam asks it")
    samples: int = Field(1, ge=1, description="answers drawn to each question")
    n_right: int | None = Field(
        None, ge=1, description="so many right ones are enough; null: all `samples`"
    )
    sampling: SamplingSettings = Field(
        SamplingSettings(temperature=0, max_tokens=256, stop=("\nQuestion:", "Question:")),
        description="how answers are drawn; the stops keep a model from asking itself more",
    )
    answer_kind: AnswerKind = Field(
        "exact", description="how an answer is compared with the reference_answer"
    )
    answer_in: AnswerPlace = Field(
        "tag",
        description="where an answer is read: tag: `<ans>`, and `\\boxed` of choices and "
        "mathematics; any: in whatever form it stands, see docs/answers.md",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_answer_in(self.answer_in, self.answer_kind)
        if self.samples > 1 and self.sampling.temperature == 0:
            raise ValueError(
                f"samples: {self.samples} at temperature 0 would be the same answer every time; "
                "set sampling: {temperature: …}"
            )
        if self.n_right is not None and self.n_right > self.samples:
            raise ValueError(f"n_right: {self.n_right} of {self.samples} samples")
        return self

    def required_columns(self) -> dict[str, set[str]]:
        return {self.rows: {"id", "question", "reference_answer"}}

    def template_variables(self, inputs: Mapping[str, Columns]) -> dict[str, Columns]:
        return {self.template: self.offered(inputs[self.rows], "examples")}

    def most_asked(self, rows: Mapping[str, int | None]) -> Mapping[str, tuple[int, int]] | None:
        n = rows[self.rows]
        return None if n is None else {self.model: (n * self.samples, self.sampling.max_tokens)}

    def is_seeded(self) -> bool:
        return self.sampling.temperature > 0

    def run(self, context: Context) -> RowsOutput:
        return RowsOutput(self._unknown(context), self.output_features(context))

    def _unknown(self, context: Context) -> Iterator[Row]:
        first = self._questions(context)
        answers = self._answers(context, first)
        n_known = n_judged = n_rows = 0
        enough = self.n_right or self.samples
        for row in context.each_row(self.rows):
            n_rows += 1
            key = _key(row)
            reference = str(row["reference_answer"] or "")
            if key not in first or is_right(reference, reference, self.answer_kind) is None:
                context.drop("no question or no usable reference_answer")
                continue
            if key not in answers:
                context.drop("the student failed")
                continue
            n_judged += 1
            verdicts = [is_right(a, reference, self.answer_kind) is True for a in answers[key]]
            if sum(verdicts) >= enough:
                n_known += 1
                context.drop("known")
                continue
            yield {**row, "student_accuracy": sum(verdicts) / self.samples}
        context.metrics.update(questions=len(first), known_rows=n_known)
        if n_rows and not n_judged:
            raise DataError(
                f"none of {counted(n_rows, 'row')} of '{self.rows}' can be judged: each has no "
                f"question, no reference_answer that answer_kind: {self.answer_kind} can read, or "
                "a question on which the student failed; look at the references, or set answer_kind"
            )
        if n_known and n_known == n_judged:
            more = n_rows - n_judged
            others = f" ({more:,} more cannot be judged)" if more else ""
            context.warn(
                f"'{self.model}' answers all {n_judged:,} rows of '{self.rows}' rightly{others}: "
                "no row is passed on, there is nothing left to teach from them"
            )

    def _questions(self, context: Context) -> dict[Question, Row]:
        """The first row of each question."""
        first: dict[Question, Row] = {}
        n = 0
        for row in context.each_row(self.rows):
            n += 1
            if str(row["question"] or "").strip() and str(row["reference_answer"] or "").strip():
                first.setdefault(_key(row), row)
        if n and not first:
            raise DataError(
                f"no row of '{self.rows}' has both a question and a reference_answer, so nobody "
                "can say what the student knows; consensus and verify give references"
            )
        return first

    def _answers(
        self, context: Context, first: Mapping[Question, Row]
    ) -> dict[Question, list[str | None]]:
        """The student's answers to each question on which no request failed."""
        total = len(first) * self.samples
        budget = self.budget(total)
        found: dict[Question, list[str | None]] = {}
        asked = self.ask(context, self.model, self._jobs(context, first), total, budget)
        while group := list(islice(asked, self.samples)):
            if all(completion.error is None for _, completion in group):
                found[group[0][0].about] = [
                    extract_answer(
                        c.text, self.answer_kind, c.finish_reason == "stop", self.answer_in
                    )
                    for _, c in group
                ]
        context.metrics.update(budget.figures())
        return found

    def _jobs(self, context: Context, first: Mapping[Question, Row]) -> Iterator[Job[Question]]:
        template = load_template(self.template)
        form = context.model(self.model).prompt_format
        for key, row in first.items():
            values = {"examples": [], **self.values(row)}
            for index in range(self.samples):
                seed = derive_seed(context.seed, self.model, *key, index)
                name = f"{row['id']}-{index}"
                yield make_job(name, key, template, values, form, self.sampling, seed)[0]


def _key(row: Row) -> Question:
    return task_of(row), question_key(row["question"])
