"""Ratios of sources: their gradient against finite differences, and what they find of a plan."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from llm_distill.methods.fusion import (
    FusionNetwork,
    class_means,
    class_of,
    fused,
    fusion_features,
    ratio_gradient,
)


def shares(*shape: int, seed: int = 0) -> torch.Tensor:
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return made.softmax(-1)


def test_the_gradient_is_that_of_the_loss_after_a_virtual_step() -> None:
    """A student of two layers: each ratio is moved a little, the step made anew."""
    x, held = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    right = torch.tensor([0, 1, 2, 1, 0])
    sources, ratios = shares(5, 3, 3, seed=2), shares(5, 3, seed=3)
    weights = torch.tensor([0.1, 0.3, 0.2, 0.3, 0.1], dtype=torch.float64)
    sizes = [(4, 6), (6, 3)]
    theta = [
        torch.randn(*size, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
        for n, size in enumerate(sizes)
    ]
    step = 0.3

    def logits(of: list[torch.Tensor], texts: torch.Tensor) -> torch.Tensor:
        return (texts @ of[0]).tanh() @ of[1]

    def after(by: torch.Tensor) -> list[torch.Tensor]:
        own = [each.clone().requires_grad_() for each in theta]
        losses = -(fused(by, sources) * logits(own, x).log_softmax(-1)).sum(-1)
        steps = torch.autograd.grad((weights * losses).sum(), own)
        return [each.detach() - step * way for each, way in zip(own, steps, strict=True)]

    def held_loss(by: torch.Tensor) -> float:
        return float(cross_entropy(logits(after(by), held), right))

    moved = [each.requires_grad_() for each in after(ratios)]
    v = torch.autograd.grad(cross_entropy(logits(moved, held), right), moved)
    _, change = torch.func.jvp(lambda *own: logits([*own], x), (*theta,), (*v,))
    found = ratio_gradient(logits(theta, x).softmax(-1), sources, change, weights, step)
    for text in range(5):
        for source in range(3):
            by = torch.zeros_like(ratios)
            by[text, source] = 1e-5
            slope = (held_loss(ratios + by) - held_loss(ratios - by)) / 2e-5
            assert found[text, source].item() == pytest.approx(slope, rel=1e-5, abs=1e-9)
    assert found.abs().max() > 1e-3


def test_features_and_means_by_hand() -> None:
    student = torch.tensor([[0.5, 0.5], [0.25, 0.75]])
    teachers = torch.tensor([[[1.0, 0.0], [0.5, 0.5]], [[0.5, 0.5], [0.0, 0.0]]])
    gold = torch.tensor([[[0.0, 1.0]], [[0.0, 0.0]]])
    sources = torch.cat([teachers, gold], 1)
    assert class_of(sources).tolist() == [1, 0]  # the label; the first of equals
    means = class_means(teachers, class_of(sources))
    assert means.tolist() == [[[0.5, 0.5], [0.0, 0.0]], [[1.0, 0.0], [0.5, 0.5]]]
    of = fusion_features(student, sources, means)
    assert of.shape == (2, (3 + 6 * 2) * 2)
    assert of[0].tolist() == [
        *[0.5, 0.5], *[0.0, 1.0], *[0.25, 0.25],
        *[1.0, 0.0, 0.5, 0.5], *[1.0, 0.0, 0.5, 0.5],
        *[0.25, 0.25, 0.0, 0.0], *[1.0, 1.0, 0.25, 0.25],
        *[0.0, 0.0, 0.0, 0.0], *[0.25, 0.25, 0.0, 0.0],
    ]  # fmt: skip


def test_what_says_nothing_counts_nothing() -> None:
    network = FusionNetwork(2, 2)
    sources = torch.tensor([[[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]], [[0.5, 0.5]] * 3])
    features = fusion_features(torch.full((2, 2), 0.5), sources, torch.zeros(2, 2, 2))
    ratios = network(features, sources)
    assert ratios[0].tolist() == [0.5, 0.0, 0.5]  # even before anything is learned
    assert ratios[1].tolist() == pytest.approx([1 / 3] * 3)
    assert fused(ratios, sources)[0].tolist() == [0.5, 0.5]
    ratios[0, 0].backward()
    assert all(each.grad.isfinite().all() for each in network.parameters())


# --- planted: who is right where ---

CENTRES = torch.tensor([[2.0, 2.0], [2.0, -2.0], [-2.0, 2.0], [-2.0, -2.0]])
WRONG = {"first": {2: 1, 3: 0}, "second": {0: 2, 1: 3}}
"""The first knows the classes 0 and 1, the second 2 and 3; the pair of their labels tells who."""


def world(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    right = torch.arange(n) % 4
    return CENTRES[right] + 0.8 * torch.randn(n, 2, generator=drawn), right


def labels_of(teacher: str, right: torch.Tensor) -> torch.Tensor:
    said = torch.tensor([WRONG[teacher].get(of, of) for of in right.tolist()])
    return 0.9 * one_hot(said, 4) + 0.025


def students_accuracy(teachers: list[str], given: list[float] | None) -> tuple[float, torch.Tensor]:
    """A linear student of the fused sources; given: ratios for all texts, or None to learn them."""
    (x, right), (held, held_right), (test, test_right) = world(200, 1), world(60, 2), world(400, 3)
    none = torch.zeros(200, 1, 4)
    sources = torch.cat([torch.stack([labels_of(t, right) for t in teachers], 1), none], 1)
    means = class_means(sources[:, :-1], class_of(sources))
    torch.manual_seed(0)
    network = FusionNetwork(len(teachers), 4)
    learns = torch.optim.Adam(network.parameters(), lr=0.03)
    theta, step, each = torch.zeros(2, 4), 0.5, torch.full((200,), 1 / 200)
    ratios = torch.zeros(200, len(teachers) + 1)
    for _ in range(150):
        p = (x @ theta).softmax(-1)
        ratios = (
            network(fusion_features(p, sources, means), sources)
            if given is None
            else torch.tensor(given).expand(200, -1)
        )
        away = p - fused(ratios.detach(), sources)
        after = theta - step * x.T @ (away * each[:, None])
        if given is None:
            gap = (held @ after).softmax(-1) - one_hot(held_right, 4)
            change = x @ (held.T @ gap / 60)
            learns.zero_grad()
            ratios.backward(ratio_gradient(p, sources, change, each, step))
            learns.step()
        theta = after
    hits = ((test @ theta).argmax(-1) == test_right).float().mean()
    return float(hits), ratios.detach()


def test_ratios_by_text_beat_any_for_all_texts() -> None:
    learned, ratios = students_accuracy(["first", "second"], None)
    shared = [students_accuracy(["first", "second"], [w, 1 - w, 0.0])[0]
              for w in (0.0, 0.25, 0.4, 0.5, 0.6, 0.75, 1.0)]  # fmt: skip
    assert learned > max(shared) + 0.1
    knows_first = torch.arange(200) % 4 < 2
    assert ratios[knows_first, 0].mean() > 0.8
    assert ratios[~knows_first, 0].mean() < 0.2


def test_of_teachers_that_are_alike_nothing_is_gained() -> None:
    """Both are wrong in the same places: no ratio makes their mean right."""
    learned, _ = students_accuracy(["first", "first"], None)
    shared, _ = students_accuracy(["first", "first"], [0.5, 0.5, 0.0])
    assert learned == pytest.approx(shared, abs=1e-6)
