"""The components of the loss on a batch, each summed over what it is a mean of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from llm_distill.distillation.lm_head.head import Head, head_logps
from llm_distill.distillation.losses.divergence import divergences_from_logits, divergences_from_top
from llm_distill.distillation.losses.loss import (
    DistributionLoss,
    MeanOf,
    TokenLoss,
    TokenReading,
)
from llm_distill.distillation.settings import DistillSettings

Batch = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Objective:
    """What is computed of each batch; see `batches.collate` for its names.

    opens: the set B over the student's vocabulary, bool [V]; None without debiasing.
    teacher_head: of a teacher in memory, for the losses by whole distributions; None where the
        batch has the likeliest tokens' log-probabilities.
    """

    settings: DistillSettings
    opens: torch.Tensor | None = None
    teacher_head: Head | None = None

    def sums(self, hidden: torch.Tensor, head: Head, batch: Batch) -> dict[str, torch.Tensor]:
        """Each named loss, summed over what it is a mean of.

        hidden: the student's last hidden states, [B, T, H].
        """
        read = hidden.flatten(0, 1).index_select(0, batch["positions"])
        losses, found = self.settings.losses.named(), {}
        by_token = [loss for loss in losses if isinstance(loss, TokenLoss)]
        by_distribution = [loss for loss in losses if isinstance(loss, DistributionLoss)]
        if by_token:
            reading = TokenReading(*head_logps(read, head, batch["targets"], self.opens))
            for loss in by_token:
                found[loss.name] = loss.summed(reading, batch, self.settings)
        if by_distribution:
            labelled = read[batch["labelled"]]
            found.update(self._of_distributions(by_distribution, labelled, head, batch))
        return found

    def _of_distributions(
        self, losses: list[DistributionLoss], read: torch.Tensor, head: Head, batch: Batch
    ) -> dict[str, torch.Tensor]:
        beta = self.settings.beta
        if self.teacher_head is None:
            top = batch["top_ids"], batch["top_logps"]
            return divergences_from_top(read, head, *top, losses, beta)
        teacher = batch["teacher_hidden"], self.teacher_head
        return divergences_from_logits(read, head, *teacher, losses, beta)


def counts(batch: Batch) -> torch.Tensor:
    """int64 [2]: how many a batch has of each `MeanOf`, labelled tokens and chunks."""
    return torch.tensor([len(batch[each.value]) for each in MeanOf])
