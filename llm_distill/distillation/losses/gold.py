"""ULD (arXiv 2402.12030) as GOLD has it, and GOLD's hybrid; TRL's, with its merge `bayesian`.

uld: where teacher and student cut a span differently, each has one distribution for it (see
`span_distributions.merged`); both are sorted, and compared rank by rank, whatever the tokens.
gold: tokens with the same text are compared as such, by the generalised Jensen-Shannon divergence
with `beta`; the others are sorted. The first part weighs as much as the share of the teacher's
tokens that have a partner.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from llm_distill.distillation.losses.loss import SpanLoss

if TYPE_CHECKING:
    import torch

    from llm_distill.methods.shared_tokens import SharedTokens
    from llm_distill.methods.span_distributions import Side

LEAST = 1e-8
"""A probability counts as this at least in the divergence of shared tokens."""


def _uld(teacher: Side, student: Side, shared: SharedTokens, settings: None) -> torch.Tensor:
    from llm_distill.methods.span_distributions import merged, sorted_l1

    return sorted_l1(merged(teacher), merged(student))


def _gold(teacher: Side, student: Side, shared: SharedTokens, beta: float) -> torch.Tensor:
    from llm_distill.methods.span_distributions import merged, sorted_l1

    pairs, p, q = shared.same, merged(teacher), merged(student)
    weight = len(pairs.teacher) / pairs.n_teacher
    matched = _jsd(p[:, pairs.teacher], q[:, pairs.student], beta)
    of_student, of_teacher = pairs.alone
    if not len(of_student) or not len(of_teacher):
        return weight * matched
    return weight * matched + (1 - weight) * sorted_l1(p[:, of_teacher], q[:, of_student])


def _jsd(p: torch.Tensor, q: torch.Tensor, beta: float) -> torch.Tensor:
    """Of what need not sum to 1; summed."""
    import torch

    log_p, log_q = (each.clamp(min=LEAST).log() for each in (p, q))
    mixed = torch.logaddexp(log_p + math.log(beta), log_q + math.log1p(-beta))
    of_teacher = (log_p.exp() * (log_p - mixed)).sum()
    of_student = (log_q.exp() * (log_q - mixed)).sum()
    return beta * of_teacher + (1 - beta) * of_student


ULD = SpanLoss("uld", _uld)
GOLD = SpanLoss("gold", _gold)
