"""Relations by explicit loops; padding, order, heads, tiles and gradients change nothing."""

from __future__ import annotations

import math

import pytest
import torch

from llm_distill.methods.relations import (
    relation_divergence,
    relation_logps,
    rows_that_count,
    split_heads,
)

LENGTHS = (5, 3, 1)


def states(n_heads: int, width: int, seed: int) -> torch.Tensor:
    """[3, 5, n_heads · width]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(LENGTHS), max(LENGTHS), n_heads * width, generator=generator)


def on_the_right() -> torch.Tensor:
    return torch.arange(max(LENGTHS))[None] < torch.tensor(LENGTHS)[:, None]


def on_the_left(values: torch.Tensor) -> torch.Tensor:
    """Each text moved to the end of its row; in front of it lies what was behind."""
    rows = zip(values, LENGTHS, strict=True)
    return torch.stack([row.roll(max(LENGTHS) - n, dims=0) for row, n in rows])


def softmax(scores: list[float]) -> list[float]:
    total = math.fsum(map(math.exp, scores))
    return [math.exp(score) / total for score in scores]


def by_loops(
    teacher: tuple[torch.Tensor, torch.Tensor],
    student: tuple[torch.Tensor, torch.Tensor],
    *,
    causal: bool,
) -> float:
    """Of [3, A, 5, d]; LENGTHS tokens of each text lie on the left."""
    n_heads, total = teacher[0].shape[1], 0.0
    for text, length in enumerate(LENGTHS):
        for row in range(1 if causal else 0, length):
            seen = range(row + 1) if causal else range(length)
            for head in range(n_heads):
                p, q = (
                    softmax(
                        [
                            float(x[text, head, row] @ y[text, head, other]) / x.shape[-1] ** 0.5
                            for other in seen
                        ]
                    )
                    for x, y in (teacher, student)
                )
                total += math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / n_heads
    return total


def pair(n_heads: int, width: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = (split_heads(states(n_heads, width, seed + 10 * n), n_heads) for n in (0, 1))
    return x, y


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("tile", [None, 1, 70])
def test_against_loops(causal: bool, tile: int | None) -> None:
    teacher, student = pair(3, 4, seed=1), pair(3, 2, seed=2)  # of different widths
    mask = on_the_right()
    found = relation_divergence(teacher, student, mask, causal=causal, tile=tile)
    assert found.item() == pytest.approx(by_loops(teacher, student, causal=causal), rel=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_the_side_of_padding_does_not_matter(causal: bool) -> None:
    sides = [states(2, width, seed) for seed, width in ((1, 4), (2, 4))]
    heads = [split_heads(of, 2) for of in sides]
    moved = [split_heads(on_the_left(of), 2) for of in sides]
    mask = on_the_right()
    one = relation_divergence((heads[0],) * 2, (heads[1],) * 2, mask, causal=causal)
    other = relation_divergence(
        (moved[0],) * 2, (moved[1],) * 2, on_the_left(mask.long()).bool(), causal=causal
    )
    assert one.item() == pytest.approx(other.item(), rel=1e-5)
    assert one.item() > 0.1


@pytest.mark.parametrize("causal", [False, True])
def test_texts_in_any_order_alone_or_together(causal: bool) -> None:
    teacher, student, mask = pair(2, 4, seed=1), pair(2, 2, seed=2), on_the_right()

    def of(texts: list[int]) -> float:
        some = [tuple(x[texts] for x in side) for side in (teacher, student)]
        found = relation_divergence(*some, mask[texts], causal=causal)  # type: ignore[arg-type]
        return found.item()

    assert of([0, 1, 2]) == pytest.approx(of([2, 0, 1]), rel=1e-5)
    assert of([0, 1, 2]) == pytest.approx(of([0]) + of([1]) + of([2]), rel=1e-5)


def test_what_is_behind_the_end_of_a_text_does_not_matter() -> None:
    x = states(2, 4, seed=1)
    spoilt = x.masked_fill(~on_the_right()[..., None], 1e4)
    own = split_heads(states(2, 4, seed=3), 2)
    one, other = (
        relation_divergence((split_heads(of, 2),) * 2, (own, own), on_the_right(), causal=False)
        for of in (x, spoilt)
    )
    assert one.item() == other.item()


def test_heads_are_runs_of_columns() -> None:
    x = torch.arange(12.0).view(1, 1, 12)
    assert split_heads(x, 3)[0, :, 0].tolist() == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
    ]
    assert torch.equal(split_heads(x, 1)[0, 0], x[0])
    with pytest.raises(ValueError, match="5 heads do not divide a width of 12"):
        split_heads(x, 5)


def test_heads_split_anew_are_not_the_heads() -> None:
    """That they are where both have as many is tried on a model (test_relations_training)."""
    teacher, student, mask = states(2, 6, seed=1), states(2, 3, seed=2), on_the_right()

    def by(n_heads: int) -> float:
        sides = [(split_heads(of, n_heads),) * 2 for of in (teacher, student)]
        found = relation_divergence(*sides, mask, causal=False)  # type: ignore[arg-type]
        return found.item()

    assert len({round(by(n), 4) for n in (1, 2, 3, 6)}) == 4


def test_a_decoders_first_token_has_no_row() -> None:
    mask = torch.tensor([[0, 1, 1], [1, 1, 0], [0, 0, 1]]).bool()
    assert torch.equal(rows_that_count(mask, causal=False), mask)
    assert rows_that_count(mask, causal=True).int().tolist() == [[0, 0, 1], [0, 1, 0], [0, 0, 0]]


def test_equal_models_are_not_apart_and_others_are_not_symmetric() -> None:
    one, other, mask = pair(2, 4, seed=1), pair(2, 4, seed=2), on_the_right()
    assert relation_divergence(one, one, mask, causal=True).item() == pytest.approx(0, abs=1e-6)
    there = relation_divergence(one, other, mask, causal=True)
    back = relation_divergence(other, one, mask, causal=True)
    assert there.item() > 0.1
    assert abs(there.item() - back.item()) > 0.1


@pytest.mark.parametrize("tile", [None, 40])
def test_gradients(tile: int | None) -> None:
    """The student's are right, padding has none, and the teacher is left alone."""
    mask = on_the_right()
    teacher = split_heads(states(2, 3, seed=1), 2).requires_grad_()
    student = split_heads(states(2, 2, seed=2), 2).contiguous().requires_grad_()

    def total(of: torch.Tensor) -> torch.Tensor:
        return relation_divergence((teacher,) * 2, (of, of), mask, causal=True, tile=tile)

    total(student).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.isfinite().all()
    padding = ~mask[:, None, :, None].expand_as(student.grad)
    assert student.grad[padding].abs().max() == 0
    for place in ((0, 0, 2, 1), (1, 1, 1, 0)):
        step = torch.zeros_like(student)
        step[place] = 1e-2
        with torch.no_grad():
            slope = (total(student + step) - total(student - step)) / 2e-2
        assert student.grad[place].item() == pytest.approx(slope.item(), abs=2e-3)


def test_half_precision_is_compared_in_full() -> None:
    x = states(1, 4, seed=1)
    half = split_heads(x.bfloat16(), 1)
    found = relation_logps((half, half), torch.ones(1, 1, 1, 5).bool())
    assert found.dtype == torch.float32
    assert found.exp().sum(-1).allclose(torch.ones(3, 1, 5), atol=1e-6)
