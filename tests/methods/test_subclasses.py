"""LELP's pseudo-subclasses: planted structure is found, and the output layer's is left out."""

from __future__ import annotations

import numpy as np
import pytest

from llm_distill.methods.subclasses import class_split, places, subclass_probabilities, unread


def test_what_the_logits_are_made_of_is_projected_away() -> None:
    random = np.random.default_rng(0)
    weights = random.standard_normal((3, 7))
    projection = unread(weights)
    x = random.standard_normal((5, 7))
    read = (x @ projection) @ (weights - weights.mean(0)).T
    assert np.allclose(read, 0)
    assert np.allclose(projection @ projection, projection)
    assert np.linalg.matrix_rank(projection) == 7 - 2  # three logits that add up to 0
    assert np.allclose(unread(weights + 5 * random.standard_normal(7)), projection)


def test_directions_are_the_principal_ones_turned() -> None:
    random = np.random.default_rng(1)
    array = random.standard_normal((200, 6)) * [9, 5, 1, 0.1, 0.1, 0.1] + 3
    split = class_split(array, 2, 0)
    along = places(array, [split])[:, 0]
    assert np.allclose(along.mean(0), 0)
    assert (along**2).mean() == pytest.approx(1)  # in standard deviations
    _, _, rows = np.linalg.svd(array - array.mean(0), full_matrices=False)
    inside = split.directions @ rows[:2].T
    assert np.allclose(inside @ rows[:2], split.directions)  # within the plane of the first two
    scaled = class_split(array * 50, 2, 0)
    assert np.allclose(places(array * 50, [scaled])[:, 0], along)
    assert np.allclose(class_split(array[::-1], 2, 0).directions, split.directions)
    assert not np.allclose(class_split(array, 2, 1).directions, split.directions)


def test_turns_spread_the_variance() -> None:
    array = np.random.default_rng(2).standard_normal((100, 5)) * [10, 1, 1, 1, 1]
    spread = [places(array, [class_split(array, 4, seed)])[:, 0].var(0) for seed in range(300)]
    assert np.allclose(np.mean(spread, axis=0), 1, atol=0.25)


def test_shares_add_up_to_the_classes_probability() -> None:
    random = np.random.default_rng(3)
    p = random.dirichlet([1, 1, 1], size=8)
    along = random.standard_normal((8, 3, 4))
    found = subclass_probabilities(p, along, 0.5)
    assert found.shape == (8, 12)
    assert np.allclose(found.reshape(8, 3, 4).sum(-1), p)
    by_hand = p[2, 1] * np.exp(along[2, 1] / 0.5) / np.exp(along[2, 1] / 0.5).sum()
    assert np.allclose(found[2, 4:8], by_hand)
    even = subclass_probabilities(p, along, 1e9)
    assert np.allclose(even, np.repeat(p / 4, 4, axis=1))


def test_planted_parts_are_told_apart() -> None:
    random = np.random.default_rng(4)
    centres = random.standard_normal((3, 10)) * 6
    parts = random.integers(3, size=300)
    array = centres[parts] + random.standard_normal((300, 10))
    along = places(array, [class_split(array, 2, 0)])
    found = subclass_probabilities(np.ones((300, 1)), along, 0.3)
    means = [found[parts == part].mean(0)[0] for part in range(3)]
    assert max(means) - min(means) > 0.7
    within = [found[parts == part].std(0)[0] for part in range(3)]
    assert min(within) < 0.15


@pytest.mark.parametrize(("n", "says"), [(3, "more than 4 texts"), (9, "vary along 1 directions")])
def test_too_little_to_split(n: int, says: str) -> None:
    array = np.outer(np.arange(n), np.ones(6))
    with pytest.raises(ValueError, match=says):
        class_split(array, 4, 0)
