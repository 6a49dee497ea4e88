"""Settings of `plan_data`'s policies: who says what new rows are made for, and how many."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from llm_distill.engines.base import SamplingSettings
from llm_distill.methods.skill_tree import Limits
from llm_distill.stage import Model


class _Policy(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Asking(_Policy):
    model: Model = Field(description="the teacher, which is asked")
    sampling: SamplingSettings = Field(
        SamplingSettings(temperature=0, max_tokens=1024), description="how the teacher answers"
    )


class OpenEnded(_Asking):
    """A teacher sees errors and writes specifications: what to practise, and why."""

    kind: Literal["open"] = Field(description="a teacher sees errors and says what is to be made")
    template: str = Field(
        description="reads `errors`, `n_specs` and `last_plan`, or with n_shown: 1 the columns of "
        "the error; asks for <reason> and <skill>"
    )
    n_requests: int = Field(12, ge=1, description="how often it is asked: no oftener than errors")
    n_shown: int = Field(3, ge=1, description="errors that a request shows")
    n_specs: int = Field(10, ge=1, description="specifications that a request asks for at most")


class SkillList(_Policy):
    """Each skill gets rows by the student's errors in it."""

    kind: Literal["list"] = Field(description="rows by the errors in each skill")
    min_wrong: int = Field(
        1, ge=1, description="a skill with fewer wrong answers gets nothing: one may be a slip"
    )


class NoState(_Policy):
    """A control: each skill gets as many, whatever the student answered."""

    kind: Literal["no_state"] = Field(description="control: as many rows for each skill")


class Random(_Policy):
    """A control: each row is for a random skill, whatever the student answered."""

    kind: Literal["random"] = Field(description="control: a random skill for each row")


class SkillTree(_Asking):
    """A teacher adds subskills, which are filled up; the student's scores are not looked at."""

    kind: Literal["tree"] = Field(description="a teacher adds subskills, then each is filled up")
    template: str = Field(
        description="reads `skill`, `subskills` (those that there are), `n_new` and `questions` of "
        "the skill; asks for <skill>"
    )
    n_shown: int = Field(8, ge=1, description="questions of the skill that a request shows")
    new: int = Field(2, ge=1, description="subskills that an exploration adds to a skill")
    new_rows: int = Field(30, ge=1, description="rows for each new subskill")
    max_subskills: int = Field(4, ge=1, description="of a skill: then no more are added")
    max_rows: int = Field(200, ge=1, description="of a subskill, over all rounds")
    max_step: int = Field(60, ge=1, description="of a subskill, in one action of filling")
    steps: int = Field(
        2, ge=1, description="actions before each training; the authors' example of MATH has 2"
    )

    @property
    def limits(self) -> Limits:
        return Limits(self.new, self.new_rows, self.max_subskills, self.max_rows, self.max_step)


Policy = Annotated[
    OpenEnded | SkillList | SkillTree | NoState | Random, Field(discriminator="kind")
]
