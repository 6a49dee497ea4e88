"""X-Token (arXiv 2605.21699): the student's probabilities put into the teacher's vocabulary.

p_kl: KL from the teacher to the projected student, both averaged over a span.
h_kl: KL of the tokens that go to one partner with most of their weight, and ULD's distance of the
others.

In a span of several tokens the teacher's average is that of log-probabilities and is left as small
as it is, so a span weighs the less, the less its tokens are alike; it may then be below 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_distill.distillation.losses.loss import Needs, SpanLoss

if TYPE_CHECKING:
    import torch

    from llm_distill.methods.shared_tokens import SharedTokens
    from llm_distill.methods.span_distributions import Side

LEAST = 1e-10
"""A teacher's token that no student's token goes to has this probability."""


def _p_kl(teacher: Side, student: Side, shared: SharedTokens, settings: None) -> torch.Tensor:
    from llm_distill.methods.shared_tokens import projected

    assert shared.edges is not None
    p = teacher.means(teacher.logps)
    # The projection is linear: of the average is the average of the projections.
    q = projected(shared.edges, student.means(student.logps.exp()), shared.same.n_teacher)
    q = q / (q.sum(1, keepdim=True) + LEAST)
    return _divergence(p, (q + LEAST).log())


def _h_kl(teacher: Side, student: Side, shared: SharedTokens, settings: None) -> torch.Tensor:
    from llm_distill.methods.span_distributions import sorted_l1

    pairs = shared.near
    p, q = teacher.means(teacher.logps), student.means(student.logps)
    of_student, of_teacher = pairs.alone
    rest = sorted_l1(p[:, of_teacher].exp(), q[:, of_student].exp())
    return _divergence(p[:, pairs.teacher], q[:, pairs.student]) + rest


def _divergence(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Σ p log(p / q) of logarithms; where p is 0 it adds 0."""
    import torch

    return (p.exp() * torch.where(p == -torch.inf, 0.0, p - q)).sum()


P_KL = SpanLoss("p_kl", _p_kl, needs=Needs.SPANS | Needs.PROJECTION)
H_KL = SpanLoss("h_kl", _h_kl, needs=Needs.SPANS | Needs.PROJECTION)
