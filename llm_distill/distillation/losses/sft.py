"""The cross entropy of the rows' tokens: of their own, not of what the student wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_distill.distillation.losses.loss import MeanOf, Needs, TokenLoss, TokenReading

if TYPE_CHECKING:
    import torch

    from llm_distill.distillation.losses.loss import Batch


def _summed(student: TokenReading, batch: Batch, settings: None) -> torch.Tensor:
    return -student.logps[batch["own"]].sum()


SFT = TokenLoss("sft", Needs(0), MeanOf.OWN_TOKENS, _summed)
