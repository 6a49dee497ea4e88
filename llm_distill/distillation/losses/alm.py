"""Approximate likelihood matching (arXiv 2503.20083), of chunks, across tokenizers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, field_serializer, model_validator

from llm_distill.distillation.losses.loss import MeanOf, Needs, TokenLoss, TokenReading

if TYPE_CHECKING:
    import torch

    from llm_distill.distillation.losses.loss import Batch


class AlmSettings(BaseModel):
    """Approximate likelihood matching (arXiv 2503.20083)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float = Field(
        1.0,
        gt=0,
        allow_inf_nan=True,
        description="τ: chunks' likelihoods are compared as p^(1/τ); .inf takes the limit",
    )
    divergence: Literal["kl", "tvd"] = Field(
        "kl", description="of the two outcomes, chunk or no chunk; tvd: total variation"
    )
    debias: bool = Field(
        True, description="count how likely a chunk is to end where it does (outcome chunks)"
    )
    gamma: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="with debias: a chunk that the teacher ends with less than this probability "
        "goes into the next one",
    )

    @model_validator(mode="after")
    def _a_number(self) -> AlmSettings:
        if math.isnan(self.temperature):
            raise ValueError("temperature is NaN")
        return self

    @field_serializer("temperature", when_used="json")
    def _in_json(self, value: float) -> float | str:
        return value if math.isfinite(value) else "inf"  # JSON has no infinity


def _summed(student: TokenReading, batch: Batch, settings: AlmSettings) -> torch.Tensor:
    import torch

    from llm_distill.methods.chunk_loss import chunk_divergence, chunk_sums

    teacher = batch["chunk_logps"]
    found = chunk_sums(student.logps, batch["chunk_of"], len(teacher))
    if student.boundary_logps is not None:
        ends = student.boundary_logps[batch["chunk_ends"]]
        found = found + torch.where(batch["chunk_open"], ends, 0.0)
    return chunk_divergence(teacher, found, settings.temperature, settings.divergence).sum()


ALM = TokenLoss("alm", Needs.CHUNKS, MeanOf.CHUNKS, _summed)
