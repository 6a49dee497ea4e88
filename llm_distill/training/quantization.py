"""A base in few bits under an adapter that is trained (QLoRA, arXiv 2305.14314)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import torch


class QuantizationSettings(BaseModel):
    """How the linear layers of the base are kept in memory; the output layer stays as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bits: Literal[4, 8] = Field(
        description="4: NormalFloat, its scales quantized as well (QLoRA); 8: LLM.int8()"
    )


def bits_and_bytes(settings: QuantizationSettings, compute: torch.dtype) -> Any:
    """Transformers' config. compute: the dtype in which a layer of 4 bits is multiplied."""
    from transformers import BitsAndBytesConfig

    if settings.bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )


def is_quantized(model: Any) -> bool:
    """Whether its weights are in fewer bits than a float has."""
    return bool(getattr(model, "is_quantized", False))


def keep_adapter_precise(model: Any) -> None:
    """What is trained in float32: TRL rounds it to bfloat16, where small steps are lost."""
    import torch

    for parameter in model.parameters():
        if parameter.requires_grad and parameter.is_floating_point():
            parameter.data = parameter.data.to(torch.float32)
