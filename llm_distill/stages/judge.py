"""Judges grade a text of each row, or say which of two is better.

in:  {"id": "t1", "question": "Why?", "answer": "Because.", "reference_answer": "It rains."}
out: {"id": "t1", …, "scores": {"grade": 2.5}, "judgements": {"one": {"grade": 2}, "two":
      {"grade": 3}}, "judge_replies": ["… <grade>2</grade>", …], "error": null}
With mode: pairwise and {"answer_a": "Because.", "answer_b": "It rains."}:
out: {"id": "t1", …, "verdict": "b", "verdict_swapped": "b", "judgements": {"one": {"verdict":
      "b", "swapped": "b"}}, "judge_replies": ["… <winner>B</winner>", …], "error": null}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llm_distill.engines.asking_stage import AskingStage
from llm_distill.engines.base import SamplingSettings
from llm_distill.errors import ConfigError
from llm_distill.evaluation.results import group_name, shown
from llm_distill.judging import judge as judging
from llm_distill.judging.panel import Gate, comparing, grading
from llm_distill.judging.panel_figures import ALL, PanelFigures, unreadable
from llm_distill.judging.row_cases import GRADE, RowCases
from llm_distill.judging.row_verdicts import compared_columns, graded_columns, why_none
from llm_distill.judging.scale import Scale
from llm_distill.judging.settings import PAIR, TEMPLATES, check_scale, check_shows_answers
from llm_distill.methods.agreement import Label
from llm_distill.methods.error_budget import ErrorBudget
from llm_distill.prompts import load_template
from llm_distill.rows.columns import Row, features
from llm_distill.stage import Columns, Context, Model, Rows, RowsOutput

if TYPE_CHECKING:
    from datasets import Features

BY_CRITERION = "judge/criterion.jinja"
Columned = str | dict[str, str]


class OneJudge(BaseModel):
    """A judge of several."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Model = Field(description="the model that is asked")
    template: str | None = Field(None, description="its own rubric; null: the stage's")


class Judge(AskingStage):
    """Asks one judge or several for a grade of each row's text, or for the better one of two.

    It is the judge of `evaluate`, for rows: pairs are shown twice, with the places swapped, and a
    judge that contradicts itself has said that they tie; an empty text gets the lowest grade, or
    loses, and two equal ones tie, without asking; a reply that cannot be read is counted and never
    guessed. Several judges are combined by their mean grade, or by the majority. With criteria each
    is asked about by itself. Shown are means and win rates with intervals, biases of position and
    length, and how far judges agree with each other, with `people` and with the `truth`.
    """

    reads_conversations: ClassVar[bool] = True
    stage: Literal["judge"]
    rows: Rows = Field(description="the stage whose rows are judged")
    model: Model | None = Field(None, description="the judge; or name several in `judges`")
    judges: dict[str, OneJudge] = Field(
        {}, description="judges by name: {strict: {model: …, template: …}, …}"
    )
    mode: Literal["grade", "pairwise"] = Field(
        "grade",
        description="grade: a grade of each text; pairwise: which of two is better, asked twice, "
        "with the places swapped",
    )
    answers: tuple[str, ...] = Field(
        (),
        description="the column with the text; of pairs two columns, or one with a list of two "
        "texts; default: answer, or answer_a and answer_b",
    )
    question_column: str = Field(
        "question",
        min_length=1,
        description="the template's `question`: what is answered, a text or a conversation, which "
        "is written out",
    )
    roles: dict[str, str] = Field(
        {}, description="what speakers are called in a conversation: {user: Pupil}"
    )
    template: str | None = Field(
        None,
        description="the rubric; reads `question`, `references`, and `answer` or `answer_a` and "
        f"`answer_b`; null: {', '.join(TEMPLATES.values())}, or with criteria {BY_CRITERION}",
    )
    criteria: dict[str, str] = Field(
        {},
        description="of grade: criteria by name, with what they mean; each is asked about by "
        "itself, as `criterion.name` and `criterion.definition`",
    )
    scale: tuple[int, int] = Field((1, 5), description="the lowest and the highest grade")
    people: Columned | None = Field(
        None,
        description="the column with what people say of the same rows: a grade; or a, b or tie; "
        "with criteria {criterion: column}",
    )
    min_agreement: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="a gate: the lowest kappa with `people` (of grades weighted) of each judge; "
        "rows with people's labels are judged first",
    )
    truth: Columned | None = Field(
        None, description="the column with the right verdict, as `people`, where it is known"
    )
    by: str | None = Field(
        None, min_length=1, description="a column: figures by its values, such as a kind of mistake"
    )
    sampling: SamplingSettings = Field(
        SamplingSettings(temperature=0, max_tokens=512), description="how verdicts are drawn"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.model is None) == (not self.judges):
            raise ValueError("give one of model and judges")
        if ALL in self.judges:
            raise ValueError(f"judges: '{ALL}' is what they are called together")
        check_scale(self.scale)
        wanted = (1, 2) if self._is_pairwise else (1,)
        if len(self._answers) not in wanted or len({*self._answers}) < len(self._answers):
            form = "two columns, or one with lists" if self._is_pairwise else "one column"
            raise ValueError(f"answers: mode: {self.mode} reads {form}")
        if self._is_pairwise and (self.criteria or "scale" in self.model_fields_set):
            raise ValueError("scale and criteria go with mode: grade; a pair has no grades")
        if self.min_agreement is not None and self.people is None:
            raise ValueError("min_agreement: name the column with what `people` say")
        self._check_columns("people", self.people)
        self._check_columns("truth", self.truth)
        for rubric in self._rubrics:
            check_shows_answers(rubric, self._is_pairwise)
            self._check_criteria(rubric)
        return self

    def _check_columns(self, setting: str, given: Columned | None) -> None:
        if isinstance(given, dict) and (not self.criteria or not given.keys() <= {*self.criteria}):
            raise ValueError(f"{setting}: columns by name are for `criteria`, by their names")
        if isinstance(given, str) and self.criteria:
            raise ValueError(f"{setting}: with criteria name the column of each: {{NAME: column}}")

    def _check_criteria(self, rubric: str) -> None:
        try:
            read = load_template(rubric).variables
        except ConfigError:  # which the check of templates says
            return
        if self.criteria and "criterion" not in read:
            raise ValueError(
                f"template {rubric} does not read `criterion`, so all criteria would be one"
            )

    @property
    def _is_pairwise(self) -> bool:
        return self.mode == "pairwise"

    @property
    def _answers(self) -> tuple[str, ...]:
        return self.answers or (PAIR if self._is_pairwise else ("answer",))

    @property
    def _scale(self) -> Scale | None:
        return None if self._is_pairwise else Scale(*self.scale)

    @property
    def _criteria(self) -> list[str]:
        return list(self.criteria) or [GRADE]

    @property
    def _judges(self) -> dict[str, OneJudge]:
        return self.judges or {str(self.model): OneJudge(model=str(self.model))}

    def _rubric(self, judge: OneJudge) -> str:
        default = BY_CRITERION if self.criteria else TEMPLATES[self.mode]
        return judge.template or self.template or default

    @property
    def _rubrics(self) -> list[str]:
        return list(dict.fromkeys(map(self._rubric, self._judges.values())))

    def _columns_of(self, given: Columned | None) -> dict[str, str]:
        """By criterion, where it is said."""
        if given is None:
            return {}
        return dict.fromkeys(self._criteria, given) if isinstance(given, str) else given

    def _reads_question(self) -> bool:
        try:
            return any("question" in load_template(name).variables for name in self._rubrics)
        except ConfigError:
            return False

    def required_columns(self) -> dict[str, set[str]]:
        asked = [self.question_column] if self._reads_question() else []
        grouped = [] if self.by is None else [self.by]
        return {self.rows: {"id", *self._answers, *asked, *self.labels(), *grouped}}

    def labels(self) -> set[str]:
        """The columns with verdicts that are known: people's, and the truth."""
        return {*self._columns_of(self.people).values(), *self._columns_of(self.truth).values()}

    def read_as_text(self) -> dict[str, set[str]]:
        return {self.rows: {self.question_column} if self._reads_question() else set()}

    def template_variables(self, inputs: Mapping[str, Columns]) -> dict[str, Columns]:
        own = PAIR if self._is_pairwise else ("answer", "completion", "criterion")
        scale = Scale(*self.scale).variables() if not self._is_pairwise else ()
        offered = self.offered(inputs[self.rows], "question", "references", *own, *scale)
        return dict.fromkeys(self._rubrics, offered)

    def _added(self) -> list[str]:
        verdict = ["verdict", "verdict_swapped"] if self._is_pairwise else ["scores"]
        return [*verdict, "judgements", "judge_replies", "error"]

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        columns = inputs[self.rows]
        return None if columns is None else columns.union(self._added())

    def most_asked(self, rows: Mapping[str, int | None]) -> Mapping[str, tuple[int, int]] | None:
        n = rows[self.rows]
        if n is None:
            return None
        asked: dict[str, tuple[int, int]] = {}
        for judge in self._judges.values():
            before = asked.get(judge.model, (0, 0))[0]
            asked[judge.model] = before + n * self._requests, self.sampling.max_tokens
        return asked

    @property
    def _requests(self) -> int:
        """Of one judge about one row."""
        return 2 if self._is_pairwise else len(self._criteria)

    def is_seeded(self) -> bool:
        return self.sampling.temperature > 0

    def run(self, context: Context) -> RowsOutput:
        like = context.rows(self.rows).features
        return RowsOutput(self._rows(context), self._features(like))

    def _features(self, like: Features) -> Features:
        from datasets import Features, Value

        text, number = Value("string"), Value("float64")
        found: dict[str, Any] = dict(like)
        if self._is_pairwise:
            found |= {"verdict": text, "verdict_swapped": text}
            each: dict[str, Any] = {"verdict": text, "swapped": text}
        else:
            each = dict.fromkeys(self._criteria, number)
            found["scores"] = dict(each)
        found["judgements"] = {name: dict(each) for name in self._judges}
        return features(["judge_replies", "error"], like=Features(found))

    def _rows(self, context: Context) -> Iterator[Row]:
        known = self._truth(context)
        gate = self._gate(context, known.get("people"))
        cases = self._read.cases(context.each_row(self.rows), context.warn)
        n_rows = len(context.rows(self.rows))
        budget = self.budget(n_rows * self._requests * len(self._judges))
        found: dict[str, list[Any]] = {}
        asked: dict[str, judging.Judge] = {}
        ids = [case[0].id for case in cases]
        for name, each in self._judges.items():  # one at a time in memory
            judge = asked[name] = self._judge(context, name, each, budget)
            if self._is_pairwise:
                pairs = [(case[0], case[1]) for case in cases]
                found[name] = comparing(judge, pairs).verdicts(len(cases), ids, gate)
            else:
                texts = [case[0] for case in cases]
                scale = Scale(*self.scale)
                found[name] = list(grading(judge, scale, texts).verdicts(len(cases), ids, gate))
        step = len(self._criteria)
        for place, row in enumerate(context.each_row(self.rows)):
            of_row = {name: of[place * step : (place + 1) * step] for name, of in found.items()}
            if self._is_pairwise:
                columns = compared_columns({name: each for name, (each,) in of_row.items()})
            else:
                columns = graded_columns(self._criteria, of_row)
            yield {**row, **columns, "error": row.get("error") or why_none(of_row)}
        groups = None
        if self.by is not None:
            groups = [group_name(row[self.by]) for row in context.each_row(self.rows)]
        told = PanelFigures(self._criteria, self._scale, groups, known)
        tables = told.tables(asked, found, cases)
        context.metrics.update(budget.figures(), **shown(*tables))
        for judge in asked.values():
            if judge.unreadable:
                context.warn(unreadable(judge))

    # --- what they are asked ---

    @property
    def _read(self) -> RowCases:
        return RowCases(
            stage=self.rows,
            answers=self._answers,
            question=self.question_column,
            roles=self.roles,
            criteria=self.criteria,
            scale=self._scale,
        )

    def _said(self, context: Context, given: Columned | None) -> list[Label | None] | None:
        """Of each case what a column says; None without the column."""
        columns = self._columns_of(given)
        return self._read.known(context.each_row(self.rows), columns) if columns else None

    def _truth(self, context: Context) -> dict[str, list[Label | None]]:
        """What verdicts are compared with, of each case."""
        known = {
            "people": self._said(context, self.people),
            "truth": self._said(context, self.truth),
        }
        for name, labels in known.items():
            if labels is not None and not any(label is not None for label in labels):
                context.warn(f"{name}: no row of '{self.rows}' has a label; nothing is compared")
        return {name: labels for name, labels in known.items() if labels is not None}

    def _gate(self, context: Context, people: Sequence[Label | None] | None) -> Gate | None:
        if self.min_agreement is None or people is None:
            return None
        columns = self._columns_of(self.people)
        of_row = [columns.get(criterion) for criterion in self._criteria]
        places = of_row * len(context.rows(self.rows))
        gate = Gate(people, places, self.rows, self.min_agreement)
        gate.check_enough()
        return gate

    def _judge(
        self, context: Context, name: str, one: OneJudge, budget: ErrorBudget
    ) -> judging.Judge:
        scale = self._scale
        return judging.Judge(
            name=name,
            wanted="<winner>" if scale is None else f"grade from {scale}",
            template=load_template(self._rubric(one)),
            sampling=self.sampling,
            prompt_format=context.model(one.model).prompt_format,
            seed=context.seed,
            ask=lambda jobs, total: self.ask(context, one.model, jobs, total, budget),
            variables=self.variables,
            sampling_at="sampling",
        )
