"""Divergences in tiles against dense ones, with their gradients."""

from __future__ import annotations

import pytest
import torch

from llm_distill.distillation.lm_head.head import Head, top_tokens
from llm_distill.distillation.losses import divergence as module
from llm_distill.distillation.losses.divergence import divergences_from_logits, divergences_from_top
from llm_distill.distillation.losses.known import LOSSES
from llm_distill.distillation.losses.loss import DistributionLoss
from llm_distill.distillation.settings import DistillSettings

KINDS = [name for name, loss in LOSSES.items() if isinstance(loss, DistributionLoss)]
N, V, BETA = 7, 11, 0.3
DIVERGENCES = DistillSettings(losses=dict.fromkeys(KINDS, 1.0), beta=BETA).divergences()


@pytest.fixture
def case():
    torch.manual_seed(0)
    hidden = torch.randn(N, 4, dtype=torch.float64).requires_grad_()
    weight = (2 * torch.randn(V, 4, dtype=torch.float64)).requires_grad_()
    teacher = torch.randn(N, 3, dtype=torch.float64)
    return hidden, Head(weight), teacher, Head(2 * torch.randn(V, 3, dtype=torch.float64))


def dense(p, q, kind):
    """A new loss of the family needs its plain formula here."""
    mixed = BETA * p + (1 - BETA) * q
    values = {
        "forward_kl": p * (p / q).log(),
        "reverse_kl": q * (q / p).log(),
        "jsd": BETA * p * (p / mixed).log() + (1 - BETA) * q * (q / mixed).log(),
    }
    return values[kind].sum()


@pytest.mark.parametrize("tile", [1, 3 * V, 10**6])
@pytest.mark.parametrize("kind", KINDS)
def test_tiles_give_what_the_dense_logits_give(kind, tile, case, monkeypatch):
    monkeypatch.setattr(module, "TILE", {"cpu": tile})
    hidden, head, of_teacher, teacher_head = case
    found = divergences_from_logits(hidden, head, of_teacher, teacher_head, DIVERGENCES)[kind]
    p = (of_teacher @ teacher_head.weight.T).softmax(-1)
    expected = dense(p, (hidden @ head.weight.T).softmax(-1), kind)
    assert found.item() == pytest.approx(expected.item())
    inputs = (hidden, head.weight)
    for ours, theirs in zip(
        torch.autograd.grad(found, inputs), torch.autograd.grad(expected, inputs), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("k", [1, 4, V])
@pytest.mark.parametrize("kind", KINDS)
def test_all_but_the_likeliest_are_one_bucket(kind, k, case, monkeypatch):
    monkeypatch.setattr(module, "TILE", {"cpu": 2 * V})
    hidden, head, of_teacher, teacher_head = case
    p = (of_teacher @ teacher_head.weight.T).softmax(-1)
    top = p.topk(k, dim=-1)
    found = divergences_from_top(hidden, head, top.indices, top.values.log(), DIVERGENCES)[kind]
    q = (hidden @ head.weight.T).softmax(-1)
    expected = torch.zeros(())
    for row in range(N):
        chosen = top.indices[row]
        others = [v for v in range(V) if v not in chosen.tolist()]
        sides = [
            torch.cat(
                [side[row, chosen], side[row, others].sum()[None]]
                if others
                else [side[row, chosen]]
            )
            for side in (p, q)
        ]
        expected = expected + dense(*sides, kind)
    assert found.item() == pytest.approx(expected.item())
    (ours,), (theirs,) = (torch.autograd.grad(value, hidden) for value in (found, expected))
    torch.testing.assert_close(ours, theirs)


def test_a_vocabulary_that_is_padded_further(case):
    hidden, head, of_teacher, teacher_head = case
    longer = Head(torch.cat([teacher_head.weight, torch.zeros(5, 3, dtype=torch.float64)]))
    found, expected = (
        divergences_from_logits(hidden, head, of_teacher, other, DIVERGENCES)
        for other in (longer, teacher_head)
    )
    for kind in KINDS:
        torch.testing.assert_close(found[kind], expected[kind])


@pytest.mark.parametrize("k", [1, 4, V])
def test_the_likeliest_of_a_teacher_that_pads_its_vocabulary_further(k, case):
    """With k tokens and the others, and the padding is one of these; with all as in memory."""
    hidden, head, of_teacher, teacher_head = case
    padding = torch.randn(5, 3, dtype=torch.float64)
    longer = Head(torch.cat([teacher_head.weight, padding]))
    top = top_tokens(of_teacher, longer, k, V)
    found = divergences_from_top(hidden, head, top.ids, top.logps, DIVERGENCES)
    if k == V:
        expected = divergences_from_logits(hidden, head, of_teacher, longer, DIVERGENCES)
    else:
        whole = (of_teacher @ longer.weight.T).softmax(-1)
        p = torch.cat([whole.gather(1, top.ids), whole.scatter(1, top.ids, 0).sum(1)[:, None]], 1)
        whole = (hidden @ head.weight.T).softmax(-1)
        q = torch.cat([whole.gather(1, top.ids), whole.scatter(1, top.ids, 0).sum(1)[:, None]], 1)
        expected = {kind: dense(p, q, kind) for kind in KINDS}
    for kind in KINDS:
        torch.testing.assert_close(found[kind], expected[kind])
        assert found[kind] > 0


def test_no_positions(case):
    hidden, head, of_teacher, teacher_head = case
    found = divergences_from_logits(hidden[:0], head, of_teacher[:0], teacher_head, DIVERGENCES)
    assert [value.item() for value in found.values()] == [0] * len(KINDS)
