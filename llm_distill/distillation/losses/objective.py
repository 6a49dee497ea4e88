"""The components of the loss on a batch, each summed over what it is a mean of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from llm_distill.distillation.lm_head.head import Head, head_logps
from llm_distill.distillation.losses.divergence import divergences_from_logits, divergences_from_top
from llm_distill.distillation.settings import DistillSettings
from llm_distill.methods.chunk_loss import chunk_divergence, chunk_sums

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
        """Each named loss, summed over chunks (alm) or labelled tokens (all others).

        hidden: the student's last hidden states, [B, T, H].
        """
        read = hidden.flatten(0, 1).index_select(0, batch["positions"])
        losses, found = self.settings.losses, {}
        if losses.alm is not None or losses.sft is not None:
            logps, log_pbs = head_logps(read, head, batch["targets"], self.opens)
            if losses.alm is not None:
                found["alm"] = self._alm(logps, log_pbs, batch)
            if losses.sft is not None:
                found["sft"] = -logps[batch["labelled"]].sum()
        if losses.shared():
            found.update(self._shared(read[batch["labelled"]], head, batch))
        return found

    def _alm(self, logps: torch.Tensor, log_pbs: torch.Tensor | None, batch: Batch) -> torch.Tensor:
        teacher = batch["chunk_logps"]
        student = chunk_sums(logps, batch["chunk_of"], len(teacher))
        if log_pbs is not None:
            ends = log_pbs[batch["chunk_ends"]]
            student = student + torch.where(batch["chunk_open"], ends, 0.0)
        alm = self.settings.alm
        return chunk_divergence(teacher, student, alm.temperature, alm.divergence).sum()

    def _shared(self, read: torch.Tensor, head: Head, batch: Batch) -> dict[str, torch.Tensor]:
        kinds, beta = self.settings.losses.shared(), self.settings.beta
        if self.teacher_head is None:
            top = batch["top_ids"], batch["top_logps"]
            return divergences_from_top(read, head, *top, kinds, beta)
        teacher = batch["teacher_hidden"], self.teacher_head
        return divergences_from_logits(read, head, *teacher, kinds, beta)


def counts(batch: Batch) -> torch.Tensor:
    """int64 [2]: labelled tokens and chunks of a batch."""
    return torch.tensor([len(batch["labelled"]), len(batch["chunk_logps"])])
