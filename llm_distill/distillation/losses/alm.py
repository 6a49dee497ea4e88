"""Approximate likelihood matching (arXiv 2503.20083), of chunks, across tokenizers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_distill.distillation.losses.loss import MeanOf, Needs, TokenLoss, TokenReading

if TYPE_CHECKING:
    import torch

    from llm_distill.distillation.losses.loss import Batch
    from llm_distill.distillation.settings import DistillSettings


def _summed(student: TokenReading, batch: Batch, settings: DistillSettings) -> torch.Tensor:
    import torch

    from llm_distill.methods.chunk_loss import chunk_divergence, chunk_sums

    teacher = batch["chunk_logps"]
    found = chunk_sums(student.logps, batch["chunk_of"], len(teacher))
    if student.boundary_logps is not None:
        ends = student.boundary_logps[batch["chunk_ends"]]
        found = found + torch.where(batch["chunk_open"], ends, 0.0)
    alm = settings.alm
    return chunk_divergence(teacher, found, alm.temperature, alm.divergence).sum()


ALM = TokenLoss("alm", Needs.CHUNKS, MeanOf.CHUNKS, _summed)
