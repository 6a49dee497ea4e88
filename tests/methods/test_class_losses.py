"""Losses of classifiers: by hand, by enumerating orders, and what must not change them."""

from __future__ import annotations

from itertools import permutations
from math import exp, log

import pytest
import torch

from llm_distill.methods.class_losses import NO_GOLD, ClassLoss, logit_mse, pld

N, C = 6, 4


@pytest.fixture
def given() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, a teacher's probabilities, gold labels, of which some are not its likeliest."""
    torch.manual_seed(0)
    logits = torch.randn(N, C, dtype=torch.float64) * 3
    return logits, torch.randn(N, C, dtype=torch.float64).softmax(-1), torch.arange(N) % C


def ranked(q: list[float], gold: int) -> list[int]:
    return [gold, *sorted((c for c in range(C) if c != gold), key=lambda c: (-q[c], c))]


def chance(s: list[float], order: list[int] | tuple[int, ...]) -> float:
    """Plackett-Luce: classes are drawn one after the other, each by softmax over what is left."""
    found = 1.0
    for k in range(len(order)):
        found *= exp(s[order[k]]) / sum(exp(s[other]) for other in order[k:])
    return found


def test_pld_by_enumerating_orders(given: tuple[torch.Tensor, ...]) -> None:
    """A term is the chance of the next class among all orders that begin so."""
    logits, q, gold = given
    losses = pld(logits, q, gold)
    for row in range(N):
        s, weights = logits[row].tolist(), q[row].tolist()
        order = ranked(weights, int(gold[row]))
        chances = {each: chance(s, each) for each in permutations(range(C))}
        assert sum(chances.values()) == pytest.approx(1)
        by_hand, before = 0.0, 1.0
        for k in range(C):
            begin = tuple(order[: k + 1])
            now = sum(p for each, p in chances.items() if each[: k + 1] == begin)
            by_hand -= weights[order[k]] * log(now / before)
            before = now
        assert losses[row].item() == pytest.approx(by_hand)


def test_pld_begins_with_the_gold_labels_cross_entropy(given: tuple[torch.Tensor, ...]) -> None:
    logits, _, gold = given
    sure = torch.nn.functional.one_hot(gold, C).double()
    assert torch.allclose(pld(logits, sure, gold), ClassLoss()(logits, sure).double(), atol=1e-5)
    of_two = pld(logits[:, :2], torch.tensor([[0.7, 0.3]]).double().expand(N, 2), gold % 2)
    right = -logits[:, :2].log_softmax(-1).gather(1, (gold % 2)[:, None])[:, 0]
    assert torch.allclose(of_two, torch.where(gold % 2 == 0, 0.7, 0.3) * right)


def test_pld_is_convex_and_blind_to_shifts(given: tuple[torch.Tensor, ...]) -> None:
    logits, q, gold = given
    other = torch.randn_like(logits) * 4
    assert torch.allclose(pld(logits + torch.randn(N, 1), q, gold), pld(logits, q, gold))
    for share in (0.2, 0.5, 0.9):
        between = pld(share * logits + (1 - share) * other, q, gold)
        line = share * pld(logits, q, gold) + (1 - share) * pld(other, q, gold)
        assert (between <= line + 1e-9).all()
    assert torch.autograd.gradcheck(lambda s: pld(s, q, gold), logits.clone().requires_grad_())


def test_equal_probabilities_are_ranked_by_place() -> None:
    s = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    q = torch.tensor([[0.1, 0.4, 0.4, 0.1]])
    found = pld(s, q, torch.tensor([2]))  # ranked 2, 1, 0, 3
    logs = [s[0, list(at)].logsumexp(0) for at in ((0, 1, 2, 3), (0, 1, 3), (0, 3))]
    by_hand = 0.4 * (logs[0] - 2) + 0.4 * (logs[1] - 1) + 0.1 * (logs[2] - 0)
    assert found.item() == pytest.approx(by_hand.item(), abs=1e-6)


def test_logits_are_matched_up_to_a_shift(given: tuple[torch.Tensor, ...]) -> None:
    logits, q, _ = given
    assert torch.allclose(logit_mse(q.log() + 5, q), torch.zeros(N).double(), atol=1e-12)
    by_hand = (logits[0] - logits[0].mean() - (q[0].log() - q[0].log().mean())) ** 2
    assert logit_mse(logits, q)[0].item() == pytest.approx(by_hand.mean().item())
    never = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    assert logit_mse(torch.zeros(1, C), never).item() < 20  # a 0 is not an infinite gap


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_gold_weight_has_the_gradients_of_one_cross_entropy(
    given: tuple[torch.Tensor, ...], alpha: float
) -> None:
    logits, q, gold = given
    mixed = alpha * torch.nn.functional.one_hot(gold, C) + (1 - alpha) * q
    grads = []
    for targets, weight in ((q, alpha), (mixed, 0.0)):
        s = logits.clone().requires_grad_()
        ClassLoss(gold_weight=weight)(s, targets, gold).sum().backward()
        grads.append(s.grad)
    assert torch.allclose(*grads, atol=1e-6)


def test_rows_without_a_gold_label_learn_from_the_teacher(given: tuple[torch.Tensor, ...]) -> None:
    logits, q, gold = given
    some = gold.clone()
    some[::2] = NO_GOLD
    for name in ("cross_entropy", "logit_mse"):
        found = ClassLoss(name, 0.4)(logits, q, some)
        assert torch.equal(found[::2], ClassLoss(name)(logits, q)[::2])
        assert torch.equal(found[1::2], ClassLoss(name, 0.4)(logits, q, gold)[1::2])
    with pytest.raises(ValueError, match="every row needs one"):
        ClassLoss("pld")(logits, q, some)


def test_several_labels_are_learned_one_by_one(given: tuple[torch.Tensor, ...]) -> None:
    logits, q, _ = given
    p = logits.sigmoid()
    by_hand = -(q * p.log() + (1 - q) * (1 - p).log()).mean(-1)
    assert torch.allclose(ClassLoss(several=True)(logits, q).double(), by_hand, atol=1e-5)


@pytest.mark.parametrize("name", ["cross_entropy", "pld", "logit_mse"])
def test_losses_are_computed_in_float32(given: tuple[torch.Tensor, ...], name: str) -> None:
    logits, q, gold = given
    short = logits.bfloat16()
    found = ClassLoss(name, 0.2)(short, q, gold)
    assert found.dtype == torch.float32
    assert torch.allclose(found, ClassLoss(name, 0.2)(short.double(), q, gold), atol=1e-5)
