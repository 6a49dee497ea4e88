"""The estimators against sums over all texts of toy models, in float64."""

from __future__ import annotations

import random

import pytest
import torch

from llm_distill.methods.chunk_loss import chunk_sums
from llm_distill.methods.sampled_reverse_kl import (
    IW_GAMMA,
    begins_in,
    chunk_rewards,
    effective_share,
    first_tokens_answer,
    importance_ratios,
    mean_returns,
    position_weights,
    returns,
    rows_of_chunks,
    sizes_of_chunks,
    spread_over_tokens,
    token_advantages,
)
from tests.methods.toy_texts import Policy, all_texts, chunks, gradient, words

TEXTS = all_texts()


def exact(student: Policy, teacher: Policy) -> torch.Tensor:
    """∇ Σ q(y) (log q(y) − log p(y)) over all texts."""
    value = sum(student.logp(t).exp() * (student.logp(t) - teacher.logp(t).detach()) for t in TEXTS)
    return gradient(student, torch.as_tensor(value))


def rewarded(student, teacher, writer=None, scale=1.0, by_token=False):
    """Of all texts joined, as rows of a batch: what the estimators are given."""
    own_chunks, positions, row_of, row_of_chunk, of_teacher = [], [], [], [], []
    for row, text in enumerate(TEXTS):
        own, others = chunks(text, (lambda t: t) if by_token else words)
        first, n = len(of_teacher), max(own) + 1
        own_chunks += [first + c for c in own]
        positions += [100 * row + i for i in range(len(own))]
        row_of += [row] * len(own)
        row_of_chunk += [row] * n
        sums = torch.zeros(n, dtype=torch.float64)
        of_teacher += sums.index_add(0, torch.tensor(others), teacher.logps(text).detach()).tolist()
    chunk_of = torch.tensor(own_chunks)
    logps = torch.cat([student.logps(text) for text in TEXTS])
    by_chunk = chunk_sums(logps.detach(), chunk_of, len(of_teacher))
    of_writer = None
    if writer is not None:
        of_writer = chunk_sums(
            torch.cat([writer.logps(t).detach() for t in TEXTS]), chunk_of, len(of_teacher)
        )
    rewards = chunk_rewards(
        torch.tensor(of_teacher, dtype=torch.float64), by_chunk, of_writer, scale
    )
    return {
        "rewards": rewards,
        "logps": logps,
        "sums": by_chunk,
        "chunk_of": chunk_of,
        "positions": torch.tensor(positions),
        "row_of": torch.tensor(row_of),
        "row_of_chunk": torch.tensor(row_of_chunk),
        "is_token": torch.full((len(of_teacher),), by_token),
    }


def expected(student, batch, advantages):
    """The mean over texts, as likely as they are, of Σ −A ∇log q."""
    weight = torch.stack([student.logp(text) for text in TEXTS]).exp().detach()
    return gradient(student, -(weight[batch["row_of"]] * advantages * batch["logps"]).sum())


def summed_returns(batch):
    answers = first_tokens_answer(batch["chunk_of"], batch["positions"], batch["is_token"])
    return token_advantages(
        returns(batch["rewards"], batch["row_of_chunk"]), batch["chunk_of"], answers
    )


def test_rewards_of_a_text_are_how_far_apart_both_sides_are() -> None:
    student, teacher = Policy(1), Policy(2, words)
    batch = rewarded(student, teacher)
    wholes = returns(batch["rewards"], batch["row_of_chunk"])
    first = torch.tensor([0, *(1 + (batch["row_of_chunk"].diff() != 0).nonzero()[:, 0])])
    wanted = [(teacher.logp(t) - student.logp(t)).item() for t in TEXTS]
    assert wholes[first].tolist() == pytest.approx(wanted)


def test_summed_returns_give_the_gradient_of_whole_texts_across_tokenizers() -> None:
    student, teacher = Policy(1), Policy(2, words)
    wanted, batch = exact(student, teacher), rewarded(student, teacher)
    found = expected(student, batch, summed_returns(batch))
    assert torch.allclose(found, wanted, atol=1e-12)
    # Were a chunk's first token not to answer for the chunk that it ends, it would be another.
    plain = token_advantages(returns(batch["rewards"], batch["row_of_chunk"]), batch["chunk_of"])
    assert (expected(student, batch, plain) - wanted).norm() > 0.05 * wanted.norm()


def test_a_chunk_alone_gives_what_a_loop_over_chunks_does() -> None:
    student, teacher = Policy(3), Policy(4, words)
    batch = rewarded(student, teacher)
    found = expected(student, batch, token_advantages(batch["rewards"], batch["chunk_of"]))
    total = torch.zeros((), dtype=torch.float64)
    for text in TEXTS:
        own, others = chunks(text, words)
        q, p = student.logps(text), teacher.logps(text).detach()
        for chunk in range(max(own) + 1):
            mine = sum(q[i] for i, c in enumerate(own) if c == chunk)
            theirs = sum(p[i] for i, c in enumerate(others) if c == chunk)
            reward = (theirs - mine).detach()  # type: ignore[union-attr]
            total = total - q.sum().exp().detach() * reward * mine
    assert torch.allclose(found, gradient(student, total), atol=1e-12)


def test_mean_returns_are_those_of_loops_and_do_not_grow_with_the_text() -> None:
    chunk_of = torch.tensor([0, 0, 1, -1, 2, 2, 2, 3, 4, 5])
    row_of = torch.tensor([0, 0, 0, 1, 1, 1])
    rewards = torch.tensor([-1.0, 2.0, -3.0, 0.5, -2.0, 4.0], dtype=torch.float64)
    sizes = sizes_of_chunks(chunk_of, 6)
    assert sizes.tolist() == [2, 1, 3, 1, 1, 1]
    wanted = []
    for k, own in enumerate(rewards.tolist()):
        later = [j for j in range(k + 1, 6) if row_of[j] == row_of[k]]
        total, n = sum(rewards[j].item() for j in later), sum(sizes[j].item() for j in later)
        wanted.append(own + (total / n if n else 0.0))
    assert mean_returns(rewards, row_of, sizes).tolist() == pytest.approx(wanted)
    # A text whose tokens are all as bad: the first answers for 2, however many follow.
    for n in (2, 50):
        alike = torch.full((n,), -1.0), torch.zeros(n, dtype=torch.int64)
        found = mean_returns(*alike, torch.ones(n, dtype=torch.int64))
        assert found.tolist() == [-2.0] * (n - 1) + [-1.0]
        assert returns(*alike)[0] == -n
    # Several texts at once are each by itself.
    first = mean_returns(rewards[:3], row_of[:3], sizes[:3])
    assert torch.equal(mean_returns(rewards, row_of, sizes)[:3], first)


def test_with_one_tokenizer_it_is_the_reverse_kl_of_each_step() -> None:
    student, teacher = Policy(5), Policy(6)
    batch = rewarded(student, teacher, by_token=True)
    assert batch["chunk_of"].tolist() == list(range(len(batch["logps"])))
    found = expected(student, batch, token_advantages(batch["rewards"], batch["chunk_of"]))
    assert torch.allclose(found, gradient(student, student.kl_of_steps(teacher)), atol=1e-12)
    found = expected(student, batch, summed_returns(batch))
    assert torch.allclose(found, exact(student, teacher), atol=1e-12)
    assert (summed_returns(batch) == returns(batch["rewards"], batch["row_of_chunk"])).all()


def test_equal_models_have_no_reward_at_all() -> None:
    student = Policy(7)
    batch = rewarded(student, student, by_token=True)
    assert batch["rewards"].abs().max() == 0


@pytest.mark.parametrize("scale", [1.25, 0.5])
def test_the_best_policy_of_a_scaled_reward(scale: float) -> None:
    student, teacher, writer = Policy(8), Policy(9), Policy(10)
    with torch.no_grad():
        logs = [writer.logp(t) + scale * (teacher.logp(t) - writer.logp(t)) for t in TEXTS]
        student.become(torch.stack(logs).softmax(0).tolist())
    for tried, is_best in ((scale, True), (1.1 * scale, False)):
        batch = rewarded(student, teacher, writer, tried, by_token=True)
        size = expected(student, batch, summed_returns(batch)).norm()
        assert (size < 1e-10) == is_best, size


def test_scaled_below_one_it_is_a_reverse_kl_to_the_writer_too() -> None:
    teacher, student, writer = torch.tensor([[-1.0, -2.0], [-3.0, -0.5], [-0.2, -4.0]])
    both = (teacher - student) + (1 - 0.8) / 0.8 * (writer - student)
    assert torch.allclose(chunk_rewards(teacher, student, writer, 0.8), 0.8 * both)
    with pytest.raises(ValueError, match="needs the writer"):
        chunk_rewards(teacher, student, None, 0.8)


def test_credit_is_spread_by_surprise_and_sums_to_the_reward() -> None:
    student, teacher = Policy(11), Policy(12, words)
    batch = rewarded(student, teacher)
    logps, chunk_of = batch["logps"].detach(), batch["chunk_of"]
    found = spread_over_tokens(batch["rewards"], logps, batch["sums"], chunk_of)
    again = chunk_sums(found, chunk_of, len(batch["rewards"]))
    assert torch.allclose(again, batch["rewards"], atol=1e-12)
    pairs = found / logps
    same = chunk_of[1:] == chunk_of[:-1]
    assert torch.allclose(pairs[1:][same], pairs[:-1][same])
    sure = spread_over_tokens(
        torch.tensor([3.0]), torch.zeros(3), torch.zeros(1), torch.tensor([0, -1, 0])
    )
    assert sure.tolist() == [1.5, 0.0, 1.5]
    nothing = torch.zeros(0)
    assert spread_over_tokens(nothing, torch.zeros(2), nothing, torch.tensor([-1, -1])).sum() == 0


def test_a_first_token_answers_for_what_lies_right_before_it() -> None:
    chunk_of = torch.tensor([0, 0, 1, 2, 2, -1, 3, 4])
    positions = torch.tensor([4, 5, 6, 7, 8, 9, 10, 30])
    is_token = torch.tensor([False] * 5)
    found = first_tokens_answer(chunk_of, positions, is_token)
    assert found.tolist() == [0, 0, 0, 1, 2, -1, 3, 4]
    assert token_advantages(torch.arange(5.0), chunk_of, found).tolist() == [
        *(0, 0, 0, 1, 2, 0, 3, 4)
    ]


def test_a_token_outside_of_chunks_says_nothing_of_their_rows() -> None:
    row_of, chunk_of = torch.tensor([4, 4, 4, 6, 6, 7]), torch.tensor([-1, 0, 1, 2, 2, -1])
    found = rows_of_chunks(row_of, chunk_of, 3)
    assert found.tolist() == [4, 4, 6]
    assert returns(torch.tensor([1.0, 2.0, 5.0]), found).tolist() == [3.0, 2.0, 5.0]


def test_a_chunk_begins_among_the_tokens_of_which_its_first_is_one() -> None:
    draw = random.Random(4)
    for _ in range(50):
        sizes = [draw.randrange(1, 4) for _ in range(draw.randrange(5))]
        chunk_of: list[int] = []
        for chunk, size in enumerate(sizes):
            chunk_of += [*[-1] * draw.randrange(2), *[chunk] * size]
        chunk_of += [-1] * draw.randrange(3)
        is_in = [draw.random() < 0.5 for _ in chunk_of]
        expected = [is_in[chunk_of.index(chunk)] for chunk in range(len(sizes))]
        found = begins_in(
            torch.tensor(is_in, dtype=torch.bool),
            torch.tensor(chunk_of, dtype=torch.long),
            len(sizes),
        )
        assert found.tolist() == expected


def test_ratios_are_one_where_nobody_knows_and_never_infinite() -> None:
    known = torch.tensor([-1.0, float("nan"), -1e4])
    found = importance_ratios(torch.tensor([-0.5, -3.0, -1.0]), known)
    assert found[:2].tolist() == pytest.approx([2.718281828**0.5, 1.0])
    assert torch.isfinite(found).all()


def test_early_tokens_count_more() -> None:
    advantages = torch.tensor([2.0, -1.0, 1.0, 0.0, 0.0, 5.0])
    row_of = torch.tensor([3, 3, 3, 7, 7, 8])
    found = position_weights(advantages, row_of)
    shares = torch.tensor([0, 0.5, 0.75, 0, 0, 0])
    assert torch.allclose(found, 1 + IW_GAMMA * (1 - shares))


def test_unlike_ratios_leave_few_samples() -> None:
    assert effective_share(4.0, 4.0, 4) == 1.0
    assert effective_share(2.0, 4.0, 4) == 0.25  # one of 2, three of 0
    assert effective_share(0.0, 0.0, 0) == 1.0
