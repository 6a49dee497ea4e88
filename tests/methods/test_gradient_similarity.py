"""LESS's formulas, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from llm_distill.methods.gradient_similarity import (
    adam_direction,
    best_task,
    checkpoint_weights,
    mean_cosines,
    task_directions,
    unit,
)


def test_what_adam_makes_of_a_gradient() -> None:
    g, m, v = (torch.tensor([x], dtype=torch.float64) for x in (0.5, 0.2, 0.04))
    expected = (0.9 * 0.2 + 0.1 * 0.5) / math.sqrt(0.999 * 0.04 + 0.001 * 0.25 + 1e-8)
    assert adam_direction(g, m, v).item() == pytest.approx(expected, rel=1e-12)
    assert (g.item(), m.item(), v.item()) == (0.5, 0.2, 0.04)


def test_the_mean_of_cosines_not_the_cosine_to_a_mean() -> None:
    """A reference row with a gradient a hundred times as long counts no more than another."""
    reference = torch.tensor([[100.0, 0.0], [0.0, 1.0], [0.0, -2.0]])
    names, directions = task_directions(reference, ["a", "a", "b"])
    assert names == ["a", "b"]
    found = mean_cosines(torch.tensor([[0.0, 3.0], [5.0, 0.0], [1.0, 1.0]]), directions)
    half = 2**-0.5
    torch.testing.assert_close(found, torch.tensor([[0.5, -1.0], [0.5, 0.0], [half, -half]]))


def test_rows_of_a_task_need_not_lie_together() -> None:
    reference = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    _, apart = task_directions(reference, ["a", "b", "a", "b", "a"])
    order = [0, 2, 4, 1, 3]
    _, together = task_directions(reference[order], ["a", "a", "a", "b", "b"])
    torch.testing.assert_close(apart, together)


def test_no_gradient_no_direction() -> None:
    vectors = torch.tensor([[0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0], [3.0, 4.0]])
    found = unit(vectors)
    assert found[:3].isnan().all()
    torch.testing.assert_close(found[3], torch.tensor([0.6, 0.8]))
    _, directions = task_directions(vectors, ["a", "a", "a", "a"])
    torch.testing.assert_close(directions[0], torch.tensor([0.6, 0.8]))
    _, nothing = task_directions(vectors[:2], ["a", "a"])
    assert nothing.isnan().all()


def test_checkpoints_are_weighted_before_the_best_task_is_taken() -> None:
    assert checkpoint_weights([3e-5, 1e-5]) == pytest.approx([0.75, 0.25])
    assert checkpoint_weights([0.0, 0.0]) == [0.5, 0.5]
    task, score = best_task([[0.4, 0.1], [-0.8, 0.3]], [0.75, 0.25])
    assert (task, score) == (1, pytest.approx(0.15))
