"""A process reward model's settings as the pipeline file has them. No heavy import here."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llm_distill.engines.process_reward.format import (
    BAD,
    GOOD,
    NextToken,
    RewardFormat,
    TokenClassification,
)
from llm_distill.models.sources import Device
from llm_distill.stage import Model, execution_setting

OF_ANOTHER_KIND = {
    "next_token": ("separator", "system"),
    "token_classification": ("good", "bad"),
}


class ProcessRewardSettings(BaseModel):
    """Which model scores steps, and what stands where in the text that it reads."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    model: Model = Field(description="the reward model, loaded with transformers")
    kind: Literal["next_token", "token_classification"] = Field(
        description="next_token: it answers each step with one of two tokens (RLHFlow); "
        "token_classification: a head reads the separator after each (Qwen2.5-Math-PRM, TRL)"
    )
    good: str = Field(GOOD, min_length=1, description="next_token: the answer to a right step")
    bad: str = Field(BAD, min_length=1, description="next_token: the answer to a wrong step")
    separator: str | None = Field(
        None,
        min_length=1,
        description="token_classification, needed there: what stands after each step, such as "
        r"<extra_0> (Qwen2.5-Math-PRM) or \n (TRL)",
    )
    system: str | None = Field(
        None, description="token_classification: the system message, where it was trained with one"
    )
    batch_size: int = execution_setting(16, "answers in one pass on the device", ge=1)
    device: Device = execution_setting("auto", "auto takes a GPU where there is one")

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        for name in OF_ANOTHER_KIND[self.kind]:
            if name in self.model_fields_set and getattr(self, name) is not None:
                raise ValueError(f"{name} does not belong to kind: {self.kind}")
        if self.kind == "token_classification" and self.separator is None:
            raise ValueError(
                "kind: token_classification needs the separator that the model was trained with"
            )
        if self.good == self.bad:
            raise ValueError(f"good and bad are the same: {self.good!r}")
        return self

    @property
    def form(self) -> RewardFormat:
        """The settings as the backend takes them."""
        if self.kind == "next_token":
            return NextToken(self.good, self.bad)
        return TokenClassification(self.separator or "", self.system)
