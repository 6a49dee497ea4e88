"""The settings of an exam's judge."""

from __future__ import annotations

from contextlib import suppress
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llm_distill.engines.base import SamplingSettings
from llm_distill.errors import ConfigError
from llm_distill.judging.scale import Scale
from llm_distill.prompts import load_template
from llm_distill.stage import Model, Rows

TEMPLATES = {"grade": "judge/answer.jinja", "pairwise": "judge/pair.jinja"}
PAIR = ("answer_a", "answer_b")


def check_scale(scale: tuple[int, int]) -> None:
    """Whether grades go up.

    Raises:
        ValueError: they do not.
    """
    lowest, highest = scale
    if not 0 <= lowest < highest <= 100:
        raise ValueError(
            f"scale: [{lowest}, {highest}]: a scale goes from a lower to a higher grade, "
            "within 0 to 100"
        )


def check_shows_answers(rubric: str, is_pairwise: bool) -> None:
    """Whether a judge is shown what it judges.

    Raises:
        ValueError: the template `rubric` does not read the answer, or both.
    """
    with suppress(ConfigError):  # not there or not readable: the check of templates says so
        read = load_template(rubric).variables
        if is_pairwise and not read.issuperset(PAIR):
            raise ValueError(
                f"template {rubric} does not show both answers; it must read {' and '.join(PAIR)}"
            )
        if not is_pairwise and read.isdisjoint(("answer", "completion")):
            raise ValueError(f"template {rubric} does not show the answer; it must read `answer`")


class LabelledSettings(BaseModel):
    """Answers that people have judged, with which the judge has to agree."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: Rows = Field(
        description="the stage with the answers: `answer`, or `answer_a` and `answer_b`; and what "
        "the judge's template reads, or the `parent_id` of an item of the exam that has it"
    )
    column: str = Field(description="people's grade on the scale; or a, b or tie")
    min_agreement: float = Field(
        ge=-1, le=1, description="the lowest kappa (of grades weighted) with which judging goes on"
    )


class JudgeSettings(BaseModel):
    """A model that judges the answers of an exam."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Model = Field(description="the judge")
    mode: Literal["grade", "pairwise"] = Field(
        "grade",
        description="grade: each answer gets a grade; pairwise: each is compared with the "
        "baseline's, twice, with the places swapped",
    )
    template: str | None = Field(
        None,
        description="the rubric; reads `question`, `references`, and `answer` or `answer_a` and "
        f"`answer_b`; null: {' or '.join(TEMPLATES.values())}",
    )
    scale: tuple[int, int] = Field((1, 5), description="the lowest and the highest grade")
    baseline: str | None = Field(
        None, description="of pairwise: the model that others are compared with; null: the first"
    )
    labelled: LabelledSettings | None = Field(
        None, description="a sample that people have judged, as a gate"
    )
    sampling: SamplingSettings = Field(
        SamplingSettings(temperature=0, max_tokens=512), description="how verdicts are drawn"
    )

    @property
    def is_pairwise(self) -> bool:
        return self.mode == "pairwise"

    @property
    def rubric(self) -> str:
        """The template's name."""
        return self.template or TEMPLATES[self.mode]

    @property
    def graded_on(self) -> Scale:
        return Scale(*self.scale)

    @property
    def own_variables(self) -> tuple[str, ...]:
        """What the template is given beside the item's columns and the stage's constants."""
        if self.is_pairwise:
            return ("question", "references", *PAIR)
        return ("question", "references", "answer", "completion", *self.graded_on.variables())

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_scale(self.scale)
        if self.is_pairwise and "scale" in self.model_fields_set:
            raise ValueError("scale goes with mode: grade; a pair has no grades")
        if self.baseline is not None and not self.is_pairwise:
            raise ValueError("baseline goes with mode: pairwise")
        check_shows_answers(self.rubric, self.is_pairwise)
        return self
