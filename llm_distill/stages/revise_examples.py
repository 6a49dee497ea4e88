"""Revise a set of worked examples by what students get wrong with it.

in:  examples {"id": "s1", "question": "2 + 2?", "rationale": "4. <ans>4</ans>"}, …
     and items {"id": "t1", "question": "3 + 5?", "reference_answer": "8"}
out: {"id": "t1", "task": "", "question": "3 + 5?", "reference_answer": "8",
      "rationale": "3 + 5 = 8. <ans>8</ans>", "score": 0.75}, …
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from llm_distill.engines.asking_stage import AskingStage
from llm_distill.engines.base import Completion, SamplingSettings
from llm_distill.engines.requests import Job, make_job
from llm_distill.errors import DataError
from llm_distill.methods.answers import (
    AnswerKind,
    AnswerPlace,
    answers_equal,
    check_answer_in,
    extract_answer,
)
from llm_distill.methods.example_sets import (
    accuracy,
    apart,
    best,
    drawn_failures,
    with_one_replaced,
)
from llm_distill.methods.examples import draw_examples, usable
from llm_distill.methods.seeds import derive_seed
from llm_distill.prompts import load_template
from llm_distill.rows.columns import Row, check_references, features, task_of
from llm_distill.stage import Columns, Context, Model, Rows, RowsOutput, later_setting

COLUMNS = ("id", "task", "question", "reference_answer", "rationale", "score")


class ReviseExamples(AskingStage):
    """One round of Learning by Teaching, M3 (arXiv 2406.14629); for several, put it in a `repeat`.

    The students answer the items with the examples before them. For `n` of the questions that one
    gets wrong the teacher is shown the answer and writes a worked example, which takes the place
    of a random one; each such set is tried on the items, and the best is passed on. The one that
    came in stays if no other is better. All sets are compared on the items that none of them
    shows, in an order drawn for each item, as in `evaluate`: the last example counts most. A worked
    example whose answer is not the reference is dropped.
    """

    always_seeded = True
    stage: Literal["revise_examples"]
    rows: Rows = Field(description="the examples: question and rationale; all are shown")
    items: Rows = Field(description="training items: question and reference_answer")
    models: list[Model] = Field(min_length=1, description="the students")
    template: str = Field(description="their exam: reads `examples` and `question`")
    teacher: Model = Field(description="the model that writes examples")
    revise_template: str = Field(
        "lbt/reflect.jinja",
        description="reads the item, the `completion` and `examples`; asks for a solution",
    )
    n: int = Field(4, ge=1, description="sets that are tried besides the one that came in")
    sampling: SamplingSettings = Field(
        SamplingSettings(temperature=0, max_tokens=256, stop=("\nQuestion:", "Question:")),
        description="how students answer",
    )
    revise_sampling: SamplingSettings = Field(
        SamplingSettings(max_tokens=512), description="how the teacher writes"
    )
    answer_kind: AnswerKind = Field("exact", description="how answers are compared")
    answer_in: AnswerPlace = later_setting(
        "tag", "where an answer is read: in its tag, or in any form; see docs/answers.md"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_answer_in(self.answer_in, self.answer_kind)
        return self

    def required_columns(self) -> dict[str, set[str]]:
        needed = {self.rows: {"id", "question", "rationale"}}
        needed.setdefault(self.items, set()).update({"id", "question", "reference_answer"})
        return needed

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        return frozenset(COLUMNS)

    def template_variables(self, inputs: Mapping[str, Columns]) -> dict[str, Columns]:
        items = inputs[self.items]
        return {
            self.template: self.offered(items, "examples"),
            self.revise_template: self.offered(items, "examples", "completion"),
        }

    def run(self, context: Context) -> RowsOutput:
        check_references(context.rows(self.items), self.items)
        return RowsOutput(self._rows(context), features(COLUMNS))

    def _rows(self, context: Context) -> Iterator[Row]:
        current = list(context.each_row(self.rows))
        for row in current:
            if not usable(row, ("question", "rationale")):
                raise DataError(
                    f"example {row['id']} of '{self.rows}' has no question or rationale"
                )
        items = list(context.each_row(self.items))
        unseen = apart(items, [current])
        if not unseen:
            raise DataError(f"every item of '{self.items}' is among the examples of '{self.rows}'")
        failures: list[Row] = []
        right = {0: self._exam(context, current, unseen, failures)}
        context.close_engines()  # students and teacher are not in memory together
        sets = [current, *self._revised(context, current, failures)]
        context.close_engines()
        compared = apart(items, sets)
        if not compared:
            raise DataError(f"'{self.items}' has no item beyond those that examples are made of")
        for index, examples in enumerate(sets[1:], start=1):
            right[index] = self._exam(context, examples, compared)
        answered = [item for item in compared if all(item["id"] in of for of in right.values())]
        if not answered:
            raise DataError(f"no item of '{self.items}' was answered with every set of examples")
        compared, n_failed = answered, len(compared) - len(answered)
        accuracies = [accuracy(right[index], compared) for index in range(len(sets))]
        at = best(accuracies)
        context.metrics.update(
            failures=len(failures),
            items_compared=len(compared),
            items_not_answered=n_failed,
            accuracy_before=accuracies[0],
            accuracy=accuracies[at],
            accuracies=accuracies,
        )
        for row in sets[at]:
            yield {
                "id": row["id"],
                "task": task_of(row),
                "question": row["question"],
                "reference_answer": row.get("reference_answer"),
                "rationale": row["rationale"].strip(),
                "score": accuracies[at],
            }

    def _exam(
        self,
        context: Context,
        examples: Sequence[Row],
        items: Sequence[Row],
        failures: list[Row] | None = None,
    ) -> dict[str, list[bool]]:
        """By item, whether each student is right; what they get wrong is added to `failures`.

        Without the items that an engine failed to answer, which says nothing about the examples.
        """
        right: dict[str, list[bool]] = {item["id"]: [] for item in items}
        budget = self.budget(len(items) * len(self.models))
        for model in self.models:
            jobs = self._jobs(context, model, examples, items)
            for job, completion in self.ask(context, model, jobs, len(items), budget):
                if completion.error is not None:
                    right.pop(job.about["id"], None)
                    continue
                is_right = self._is_right(completion, job.about["reference_answer"])
                if job.about["id"] in right:
                    right[job.about["id"]].append(is_right)
                if failures is not None and not is_right:
                    failures.append(
                        {**job.about, "completion": completion.text.strip() or "(none)"}
                    )
        return right

    def _jobs(
        self, context: Context, model: str, examples: Sequence[Row], items: Sequence[Row]
    ) -> Iterator[Job[Row]]:
        template = load_template(self.template)
        prompt_format = context.model(model).prompt_format
        for item in items:
            pool, order = (
                {task_of(item): examples},
                derive_seed(context.seed, item["id"], "examples"),
            )
            shown = draw_examples(item, pool, len(examples), order)
            values = {**self.values(item), "examples": shown}
            seed = derive_seed(context.seed, item["id"])
            yield make_job(item["id"], item, template, values, prompt_format, self.sampling, seed)[
                0
            ]

    def _revised(
        self, context: Context, current: Sequence[Row], failures: Sequence[Row]
    ) -> Iterator[list[Row]]:
        """Sets with one new example each."""
        drawn = drawn_failures(failures, self.n, context.seed)
        template = load_template(self.revise_template)
        prompt_format = context.model(self.teacher).prompt_format
        sampling = self.revise_sampling

        def jobs() -> Iterator[Job[Row]]:
            for item in drawn:
                values = {**self.values(item), "examples": current}
                seed = derive_seed(context.seed, self.teacher, item["id"])
                yield make_job(item["id"], item, template, values, prompt_format, sampling, seed)[0]

        budget = self.budget(len(drawn))
        for job, completion in self.ask(context, self.teacher, jobs(), len(drawn), budget):
            if completion.error is not None:
                context.drop("the teacher failed")
                continue
            if self._is_right(completion, job.about["reference_answer"]):
                new = {**job.about, "rationale": completion.text.strip()}
                yield with_one_replaced(current, new, context.seed)
            else:
                context.drop("an example with a wrong answer")

    def _is_right(self, completion: Completion, reference: str) -> bool:
        ended = completion.finish_reason == "stop"
        answer = extract_answer(completion.text, self.answer_kind, ended, self.answer_in)
        return answers_equal(answer, reference, self.answer_kind)
