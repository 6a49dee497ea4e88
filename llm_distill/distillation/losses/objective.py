"""The components of the loss on a batch, each summed over what it is a mean of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from llm_distill.distillation.lm_head.head import Head, head_logps
from llm_distill.distillation.losses.loss import (
    MeanOf,
    TokenLoss,
    TokenReading,
)
from llm_distill.distillation.settings import DistillSettings
from llm_distill.distillation.teacher.signal import BatchesOfRows, BatchSignal

if TYPE_CHECKING:
    from llm_distill.distillation.losses.loss import Batch


WATCHED = "watched."
"""Begins the names of sums that are no loss: `watched.LOSS.NAME`."""


@dataclass(frozen=True)
class Objective:
    """What is computed of each batch; see `batches.collate` for its names.

    boundary_tokens: over the student's vocabulary, bool [V]; None without debiasing.
    signal: what the batches have of the teacher.
    """

    settings: DistillSettings
    boundary_tokens: torch.Tensor | None = None
    signal: BatchSignal = field(default_factory=BatchesOfRows)

    def sums(self, hidden: torch.Tensor, head: Head, batch: Batch) -> dict[str, torch.Tensor]:
        """Each named loss, summed over what it is a mean of, and what is watched, see `WATCHED`.

        hidden: the student's last hidden states, [B, T, H].
        """
        read = hidden.flatten(0, 1).index_select(0, batch["positions"])
        losses, found = self.settings.losses.named(), {}
        by_token = [loss for loss in losses if isinstance(loss, TokenLoss)]
        divergences = self.settings.divergences()
        if by_token:
            reading = TokenReading(*head_logps(read, head, batch["targets"], self.boundary_tokens))
            for loss in by_token:
                found[loss.name] = loss.summed(reading, batch, self.settings.of(loss))
                found |= self._watched(loss, reading, batch)
        if divergences:
            labelled = read[batch["labelled"]]
            found |= self.signal.divergences(labelled, head, batch, divergences)
        spans = self.settings.span_losses()
        if spans:
            found |= self.signal.span_losses(read[batch["labelled"]], head, batch, spans)
        return found

    def _watched(self, loss: TokenLoss, reading: TokenReading, batch: Batch) -> dict[str, Any]:
        if loss.watch is None:
            return {}
        sums = loss.watch.sums(reading, batch, self.settings.of(loss))
        return {f"{WATCHED}{loss.name}.{name}": value for name, value in sums.items()}


def counts(batch: Batch) -> torch.Tensor:
    """int64 [5]: how many a batch has of each `MeanOf`, in its order."""
    return torch.tensor([len(batch.get(each.value, ())) for each in MeanOf])
