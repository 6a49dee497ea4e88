"""What a classifier is trained by: losses of its logits towards a target, one value a row. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

LossName = Literal["cross_entropy", "pld", "logit_mse"]
LOWEST = 1e-4
"""Probabilities below count as this where their logarithm is matched: stored ones are rounded, and
the logarithm of a 0 would be all that a row says."""
NO_GOLD = -1


@dataclass(frozen=True)
class ClassLoss:
    """(1 − gold_weight) · the loss towards the target + gold_weight · cross entropy to the gold.

    With cross entropy this is the cross entropy to α·onehot(gold) + (1 − α)·target, so α weighs the
    ground truth, as in "Even your Teacher Needs Guidance" (arXiv 2102.13088). A row without a gold
    label learns from its target alone.

    Attributes:
        several: any number of labels a text: cross entropy is then that of each class by itself.
    """

    name: LossName = "cross_entropy"
    gold_weight: float = 0.0
    several: bool = False

    def __call__(
        self, logits: torch.Tensor, targets: torch.Tensor, gold: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The loss of each row [rows], in nats (`logit_mse`: squared nats).

        Args:
            logits: [rows, classes], of any floating type; computed in float32.
            targets: [rows, classes], a share of each class.
            gold: [rows], the index of the gold label or `NO_GOLD`; `pld` needs it in every row.
        """
        losses = self._towards(logits.float(), targets.float(), gold)
        if self.gold_weight == 0 or gold is None:
            return losses
        right = -logits.float().log_softmax(-1).gather(-1, gold.clamp(min=0)[:, None])[:, 0]
        mixed = (1 - self.gold_weight) * losses + self.gold_weight * right
        return torch.where(gold == NO_GOLD, losses, mixed)

    def _towards(
        self, logits: torch.Tensor, targets: torch.Tensor, gold: torch.Tensor | None
    ) -> torch.Tensor:
        if self.several:
            return binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(-1)
        if self.name == "cross_entropy":
            return -(targets * logits.log_softmax(-1)).sum(-1)
        if self.name == "logit_mse":
            return logit_mse(logits, targets)
        if self.name == "pld":
            if gold is None or bool((gold == NO_GOLD).any()):
                raise ValueError("pld ranks the gold label first, so every row needs one")
            return pld(logits, targets, gold)
        assert_never(self.name)


def logit_mse(logits: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
    """Mean over classes of (s − t)², both centred: a softmax does not tell their means.

    Logit matching (Ba and Caruana 2014, "Do Deep Nets Really Need to be Deep?", eq. 1), from
    probabilities: t = log p, for a p of at least `LOWEST`. Shapes as in `ClassLoss`.
    """
    wanted = probabilities.clamp(min=LOWEST).log()
    gaps = logits - logits.mean(-1, keepdim=True) - wanted + wanted.mean(-1, keepdim=True)
    return gaps.square().mean(-1)


def pld(logits: torch.Tensor, probabilities: torch.Tensor, gold: torch.Tensor) -> torch.Tensor:
    """Σₖ q(πₖ) · [log Σ_{l ≥ k} exp s(π_l) − s(πₖ)], with π the gold label, then the others from
    the likeliest down; of equals the first.

    Plackett-Luce distillation (arXiv 2506.12542, with τ = 1): a weighted ListMLE. Its first term is
    q(gold) times the cross entropy to the gold, its last is 0; it is convex in s, and adding a
    number to all of a row's s does not change it.

    Args:
        logits: [rows, classes], s.
        probabilities: [rows, classes], q; each row's add up to 1.
        gold: [rows], the index of the right class.
    """
    first = torch.zeros_like(probabilities, dtype=torch.bool).scatter(1, gold[:, None], True)
    keys = probabilities.masked_fill(first, torch.inf)
    ranked = keys.sort(dim=-1, descending=True, stable=True).indices
    s, q = logits.gather(-1, ranked), probabilities.gather(-1, ranked)
    rest = s.flip(-1).logcumsumexp(-1).flip(-1)  # over what is ranked at k or below
    return (q * (rest - s)).sum(-1)
