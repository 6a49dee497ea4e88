"""How much each teacher, and the right label, count in each text: ratios that are learned. Pure.

TGeo-KD (arXiv 2312.15112): a small network reads where a text's student, teacher, right label and
the teacher's mean for the class lie to each other, and its ratios weigh the losses. It is taught by
the student's loss on validation rows after one virtual step (bilevel). The paper leaves open how
that is solved, and has one teacher; the rest is ours: the losses are cross entropies, so the
weighted losses are one to the weighted mean of what is learned from (the sources), and several
teachers are several sources. A text's sources are [teachers + 1, classes]: the teachers'
probabilities, then the right label's one-hot; all zeros where there is none.
"""

from __future__ import annotations

from itertools import pairwise

import torch

HIDDEN = (32, 16)
"""Widths of the network."""


def class_means(teachers: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """[classes, teachers, classes]: each teacher's mean over the texts of a class.

    Zeros where it labelled none.

    Args:
        teachers: [texts, teachers, classes], zeros where a teacher gave none.
        classes: [texts], of each its class, int64.
    """
    n = teachers.shape[-1]
    of = torch.nn.functional.one_hot(classes, n).to(teachers)  # [texts, classes]
    sums = torch.einsum("rc,rtk->ctk", of, teachers)
    counts = torch.einsum("rc,rt->ct", of, (teachers.sum(-1) > 0).to(teachers))
    return sums / counts.clamp(min=1)[..., None]


def class_of(sources: torch.Tensor) -> torch.Tensor:
    """[texts]: the right label's place where it is known, else the likeliest of the teachers' mean.

    sources: [texts, teachers + 1, classes].
    """
    gold = sources[:, -1]
    known = gold.sum(-1) > 0
    return torch.where(known, gold.argmax(-1), sources[:, :-1].sum(1).argmax(-1))


def fusion_features(
    student: torch.Tensor, sources: torch.Tensor, means: torch.Tensor
) -> torch.Tensor:
    """[texts, (3 + 6 · teachers) · classes]: where student S, teachers T, right label G and the
    teachers' means T̄ lie, and squared differences.

    S, G, (S − G)²; of each teacher T, T̄, (S − T)², (T − G)², (T − T̄)², (S − T̄)².

    Args:
        student: [texts, classes], its probabilities.
        sources: [texts, teachers + 1, classes].
        means: [classes, teachers, classes], as `class_means` gives them.
    """
    gold, teachers = sources[:, -1], sources[:, :-1]
    mean = means[class_of(sources)]
    own, right = student[:, None], gold[:, None]
    of_teachers = (
        teachers, mean, (own - teachers).square(), (teachers - right).square(),
        (teachers - mean).square(), (own - mean).square(),
    )  # fmt: skip
    shared = torch.cat([student, gold, (student - gold).square()], -1)
    return torch.cat([shared, *(each.flatten(1) for each in of_teachers)], -1)


class FusionNetwork(torch.nn.Module):  # type: ignore[misc]
    """Features to a ratio for each source, which add up to 1; 0 where a source says nothing.

    It begins with even ratios. With one teacher the softmax is the paper's sigmoid.
    """

    def __init__(self, n_teachers: int, n_classes: int) -> None:
        super().__init__()
        sizes = [(3 + 6 * n_teachers) * n_classes, *HIDDEN]
        layers: list[torch.nn.Module] = []
        for size, wanted in pairwise(sizes):
            layers += [torch.nn.Linear(size, wanted), torch.nn.ReLU()]
        last = torch.nn.Linear(sizes[-1], n_teachers + 1)
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)
        self.layers = torch.nn.Sequential(*layers, last)

    def forward(self, features: torch.Tensor, sources: torch.Tensor) -> torch.Tensor:
        """[texts, teachers + 1]."""
        says = sources.sum(-1) > 0
        scores: torch.Tensor = self.layers(features)
        return scores.masked_fill(~says, -torch.inf).softmax(-1)


def fused(ratios: torch.Tensor, sources: torch.Tensor) -> torch.Tensor:
    """[texts, classes]: the mean of the sources, weighted by their ratios."""
    return (ratios[..., None] * sources).sum(1)


def ratio_gradient(
    student: torch.Tensor,
    sources: torch.Tensor,
    change: torch.Tensor,
    weights: torch.Tensor,
    step: float,
) -> torch.Tensor:
    """How the validation loss after the virtual step changes with each ratio: [texts, sources].

    The step goes to θ' = θ − η · ∇θ Σᵢ wᵢ CE(Σₖ αᵢₖ qᵢₖ, student(xᵢ)). The loss of a source is
    linear in its ratio, and its gradient by the logits is p − q. So with v, the gradient of the
    validation loss at θ', exactly: d/dαᵢₖ = −η · wᵢ · (p − qₖ) · (J v)ᵢ.

    Args:
        student: [texts, classes], p at θ.
        sources: [texts, sources, classes], q.
        change: [texts, classes], J v: how fast the logits at θ change along v.
        weights: [texts], w.
        step: η.
    """
    gaps = student[:, None] - sources
    return -step * weights[:, None] * (gaps * change[:, None]).sum(-1)
