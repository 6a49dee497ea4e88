"""What an explanation is worth for a student, by two mental models of the student.

in:  {"id": "q1", "question": "3 + 4?", "reference_answer": "7", "explanation": "Count on from 3."}
     and demonstrations of the student, {"id": "s1", "question": "1 + 2?", "explanation": "Count.",
     "answer_without": "4", "answer_with": "3"}
out: {"id": "q1", "question": "3 + 4?", "reference_answer": "7", "explanation": "Count on from 3.",
      "p_without": 0.2, "p_with": 0.7, "utility": 0.5, "n_samples": null, "error": null}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import isnan
from typing import Literal, Self

from pydantic import Field, model_validator

from llm_distill.engines.asking_stage import AskingStage
from llm_distill.engines.base import Completion, SamplingSettings
from llm_distill.engines.requests import Job, make_job
from llm_distill.engines.text_scores import TextScore, text_scores
from llm_distill.errors import DataError, quoted
from llm_distill.evaluation.intervention_figures import utility_table
from llm_distill.evaluation.results import shown
from llm_distill.methods.answers import AnswerKind, answers_equal, extract_answer
from llm_distill.methods.examples import draw_examples, usable
from llm_distill.methods.intervention import probability
from llm_distill.methods.seeds import derive_seed
from llm_distill.prompts import continuation, load_template
from llm_distill.rows.columns import Row, by_task, features, task_of
from llm_distill.stage import Columns, Context, Model, Rows, RowsOutput

SHOWN = ("question", "explanation", "answer_without", "answer_with")
"""What a demonstration has."""
ADDED = ("p_without", "p_with", "utility", "n_samples", "error")


@dataclass(frozen=True)
class _Asked:
    """A row, and the texts whose likelihoods are asked for, the answer's first."""

    row: Row
    texts: tuple[str, ...] = ()


class InterventionUtility(AskingStage):
    """Adds U = p_with − p_without of an answer: how much likelier an explanation makes it.

    Both are a mental model's (arXiv 2306.09299): a model that is shown how this student answered
    other questions, without help (`template_without`) and with an explanation (`template_with`),
    and is asked how likely it answers this one so. Both are shown the same demonstrations. p is
    that of the whole answer, its log-probability summed over the tokens; with `choices_column` its
    share of the row's choices; with `n_samples` the share of as many sampled answers that equal it.

    A row without an explanation is kept with an `error`: it has no utility.
    """

    stage: Literal["intervention_utility"]
    rows: Rows = Field(description="the stage whose rows have explanations")
    model: Model = Field(description="the mental model, usually the teacher")
    demonstrations: Rows = Field(
        description="the student's own behaviour: question, explanation, answer_without, "
        "answer_with; rows in which one of them is blank are left out"
    )
    n_demonstrations: int = Field(4, ge=1, description="how many are shown")
    draw: Literal["task", "all"] = Field(
        "task",
        description="task: of the row's task, the same for all its rows; all: the same for all "
        "rows. A row is never its own demonstration",
    )
    template_without: str = Field(
        "tutoring/mental_model.jinja",
        description="reads `demonstrations` and the row: question → the student's answer",
    )
    template_with: str = Field(
        "tutoring/mental_model_helped.jinja",
        description="the same with the row's `explanation`",
    )
    answer_column: str = Field(
        "reference_answer", min_length=1, description="the answer whose probability counts"
    )
    choices_column: str | None = Field(
        None, description="a list of answers: p is the answer's share of them"
    )
    ends_with: str = Field(
        "",
        description="follows the answer and belongs to it, such as a line break for models that "
        "continue text: without it 1 is also the beginning of 12",
    )
    n_samples: int | None = Field(
        None, ge=2, description="for engines without likelihoods: how many answers are sampled"
    )
    sampling: SamplingSettings = Field(
        SamplingSettings(max_tokens=32), description="how they are drawn, with n_samples"
    )
    answer_kind: AnswerKind = Field(
        "exact", description="with n_samples: when an answer equals the row's, as `verify` compares"
    )
    correct_column: str | None = Field(
        None,
        description="whether the student is right without help: the figures then tell what "
        "explanations are worth where it is, and where it is not",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.n_samples is None:
            given = [n for n in ("sampling", "answer_kind") if n in self.model_fields_set]
            if given:
                raise ValueError(f"{' and '.join(given)} go with n_samples")
            return self
        if self.choices_column is not None or self.ends_with:
            raise ValueError("choices_column and ends_with are for likelihoods, not for n_samples")
        if self.sampling.temperature == 0:
            raise ValueError(
                f"n_samples: {self.n_samples} at temperature 0 would be the same answer every "
                "time; set sampling: {temperature: …}"
            )
        return self

    def asks(self, place: str) -> Literal["text", "likelihoods"] | None:
        return "likelihoods" if self.n_samples is None else "text"

    def is_seeded(self) -> bool:
        return True  # which demonstrations are drawn

    def most_asked(self, rows: Mapping[str, int | None]) -> Mapping[str, tuple[int, int]] | None:
        n = rows[self.rows]
        if n is None or self.choices_column is not None:
            return None
        if self.n_samples is None:
            return {self.model: (2 * n, 0)}
        return {self.model: (2 * n * self.n_samples, self.sampling.max_tokens)}

    def fewest_rows(self) -> list[tuple[str, str, int]]:
        return [("n_demonstrations", self.demonstrations, self.n_demonstrations)]

    def required_columns(self) -> dict[str, set[str]]:
        own = {"id", "question", "explanation", self.answer_column}
        needed = {self.rows: own | {*filter(None, [self.choices_column, self.correct_column])}}
        needed.setdefault(self.demonstrations, set()).update({"id", *SHOWN})
        return needed

    def template_variables(self, inputs: Mapping[str, Columns]) -> dict[str, Columns]:
        offered = self.offered(inputs[self.rows], "demonstrations")
        return {self.template_without: offered, self.template_with: offered}

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        columns = inputs[self.rows]
        return None if columns is None else columns.union(ADDED)

    def most_rows(self, rows: Mapping[str, int | None]) -> int | None:
        return rows[self.rows]

    def run(self, context: Context) -> RowsOutput:
        like = context.rows(self.rows).features
        return RowsOutput(self._rows(context), features(ADDED, like=like))

    def _rows(self, context: Context) -> Iterator[Row]:
        for row in context.each_row(self.rows):  # before anything is paid for
            self._is_right(row)
        told: list[Row] = []
        found = self._by_likelihood(context) if self.n_samples is None else self._sampled(context)
        for row, given in found:
            kept = {name: given.get(name) for name in ADDED}
            told.append({**kept, "is_right": self._is_right(row)})
            yield {**row, **kept}
        self._tell(context, told)

    def _is_right(self, row: Row) -> bool | None:
        """Whether the student is right without help, where that is known."""
        value = None if self.correct_column is None else row[self.correct_column]
        if value not in (True, False, None):  # 1 and 0 are equal to these
            raise DataError(
                f"row {row['id']} of '{self.rows}': {self.correct_column} is {quoted(value)}, "
                "neither true nor false"
            )
        return None if value is None else bool(value)

    # --- what is asked ---

    def _jobs(self, context: Context, times: int = 1) -> Iterator[Job[_Asked]]:
        """For each row `times` jobs without the explanation, and as many with it."""
        pools = self._pools(context)
        templates = {
            "without": load_template(self.template_without),
            "with": load_template(self.template_with),
        }
        form = context.model(self.model).prompt_format
        for row in context.each_row(self.rows):
            try:
                asked = _Asked(row, self._texts(row, form))
                values = {**self.values(row), "demonstrations": self._drawn(row, pools, context)}
            except DataError as error:
                for side in templates:
                    for index in range(times):
                        name = f"{row['id']}-{side}-{index}"
                        yield Job(name, _Asked(row), None, str(error))
                continue
            for side, template in templates.items():
                for index in range(times):
                    seed = derive_seed(context.seed, self.model, row["id"], side, index)
                    name = f"{row['id']}-{side}-{index}"
                    yield make_job(name, asked, template, values, form, self.sampling, seed)[0]

    def _texts(self, row: Row, form: str) -> tuple[str, ...]:
        """The answer and, with choices, the others.

        Raises:
            DataError: there is no answer, or it is not one of the choices.
        """
        answer = str(row[self.answer_column] if row[self.answer_column] is not None else "").strip()
        if not answer:
            raise DataError(f"{self.answer_column} is null or empty")
        others: list[str] = []
        if self.choices_column is not None:
            choices = [str(each).strip() for each in row[self.choices_column] or ()]
            if answer not in choices:
                raise DataError(
                    f"{self.answer_column} is '{answer}', which is none of {self.choices_column}"
                )
            others = [each for each in dict.fromkeys(choices) if each != answer]
        whole = [text if form == "chat" else continuation(text) for text in (answer, *others)]
        return tuple(text + self.ends_with for text in whole)

    def _pools(self, context: Context) -> dict[str, list[Row]]:
        rows = list(context.each_row(self.demonstrations))
        good = [row for row in rows if usable(row, SHOWN)]
        if not good:
            raise DataError(
                f"no demonstration of '{self.demonstrations}' has all of {', '.join(SHOWN)}"
            )
        if len(good) < len(rows):
            context.warn(
                f"{len(rows) - len(good)} of {len(rows)} demonstrations of '{self.demonstrations}' "
                f"have no {' or no '.join(SHOWN)}; left out"
            )
        return by_task(good) if self.draw == "task" else {"": good}

    def _drawn(self, row: Row, pools: Mapping[str, Sequence[Row]], context: Context) -> list[Row]:
        of = row if self.draw == "task" else {**row, "task": ""}
        seed = derive_seed(context.seed, "demonstrations", task_of(of))
        return draw_examples(of, pools, self.n_demonstrations, seed)

    # --- what is answered ---

    def _by_likelihood(self, context: Context) -> Iterator[tuple[Row, Row]]:
        budget = self.budget(self._n_texts(context))
        jobs = self._jobs(context)
        sides = text_scores(context, self.model, jobs, lambda asked: asked.texts, budget)
        for about, without, error in sides:
            _, helped, other = next(sides)
            yield about.row, self._given(self._p(without), self._p(helped), error or other)
        context.metrics.update(budget.figures())

    def _n_texts(self, context: Context) -> int:
        if self.choices_column is None:
            return 2 * len(context.rows(self.rows))
        each = context.rows(self.rows).select_columns([self.choices_column])
        return sum(2 * max(1, len(row[self.choices_column] or ())) for row in each)

    def _p(self, scores: Sequence[TextScore] | None) -> float | None:
        if scores is None or any(isnan(score.logp) for score in scores):
            return None
        logps = [score.logp for score in scores]
        return probability(logps[0], logps if self.choices_column is not None else None)

    def _sampled(self, context: Context) -> Iterator[tuple[Row, Row]]:
        n = self.n_samples or 0
        total = 2 * n * len(context.rows(self.rows))
        budget = self.budget(total)
        answers = self.ask(context, self.model, self._jobs(context, n), total, budget)
        while both := list(islice(answers, 2 * n)):
            row = both[0][0].about.row
            sides = [[said for _, said in both[:n]], [said for _, said in both[n:]]]
            readable = [[each for each in side if each.error is None] for side in sides]
            errors = [each.error for side in sides for each in side if each.error is not None]
            without, helped = (self._share(side, row) for side in readable)
            error = errors[0] if without is None or helped is None else None
            given = self._given(without, helped, error)
            yield row, {**given, "n_samples": min(map(len, readable))}
        context.metrics.update(budget.figures())

    def _share(self, said: Sequence[Completion], row: Row) -> float | None:
        """The share of answers that are the row's; None where none was given."""
        if not said:
            return None
        wanted = str(row[self.answer_column])
        given = [self._answer(each.text, each.finish_reason == "stop") for each in said]
        return sum(answers_equal(each, wanted, self.answer_kind) for each in given) / len(given)

    def _answer(self, text: str, ended: bool) -> str:
        """In its tag, or else the first line: a model of text goes on with a next question."""
        found = extract_answer(text, self.answer_kind, ended)
        return found or text.strip().partition("\n")[0]

    def _given(self, without: float | None, helped: float | None, error: str | None) -> Row:
        if error is None and (without is None or helped is None):
            error = "the model computes no finite likelihood"
        if without is None or helped is None:
            return {"p_without": without, "p_with": helped, "error": error}
        return {"p_without": without, "p_with": helped, "utility": helped - without}

    def _tell(self, context: Context, told: Sequence[Row]) -> None:
        good = [each for each in told if each["utility"] is not None]
        context.metrics["without_utility"] = len(told) - len(good)
        if not good:
            if told:
                raise DataError(
                    f"no row of '{self.rows}' has a utility; the first: {told[0]['error']}"
                )
            return
        table = utility_table(good, self.correct_column is not None)
        context.metrics.update(shown(table))
