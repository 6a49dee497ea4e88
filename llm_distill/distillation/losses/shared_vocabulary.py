"""Divergences of next-token distributions, for a teacher and a student of one vocabulary.

forward_kl: KL(T ‖ S). reverse_kl: KL(S ‖ T). jsd: β KL(T ‖ M) + (1 − β) KL(S ‖ M) with
M = β T + (1 − β) S, the generalised Jensen-Shannon divergence of GKD (arXiv 2306.13649).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from llm_distill.distillation.losses.loss import DistributionLoss

if TYPE_CHECKING:
    import torch


def _forward_kl(teacher: torch.Tensor, student: torch.Tensor, settings: None) -> torch.Tensor:
    return kl(teacher, student)


def _reverse_kl(teacher: torch.Tensor, student: torch.Tensor, settings: None) -> torch.Tensor:
    return kl(student, teacher)


def _jsd(teacher: torch.Tensor, student: torch.Tensor, beta: float) -> torch.Tensor:
    import torch

    mixed = torch.logaddexp(teacher + math.log(beta), student + math.log1p(-beta))
    return beta * kl(teacher, mixed) + (1 - beta) * kl(student, mixed)


def kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """KL(p ‖ q), summed over positions, of log-probabilities [N, K]; where p is 0 it adds 0."""
    import torch

    log_ratio = torch.where(p == -torch.inf, 0.0, p - q)
    return (p.exp() * log_ratio).sum()


FORWARD_KL = DistributionLoss("forward_kl", _forward_kl)
REVERSE_KL = DistributionLoss("reverse_kl", _reverse_kl)
JSD = DistributionLoss("jsd", _jsd)
