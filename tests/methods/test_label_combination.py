"""What is chosen on validation rows, and teachers whose faults are planted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llm_distill.methods.label_combination import Combination, How, chosen
from llm_distill.methods.opinion_pools import at_temperature, log_loss, stacked_weights
from llm_distill.methods.teacher_labels import Held

N, LABELS = 600, 4


def teacher(right: Any, accuracy: float, seed: int) -> Any:
    """[rows, labels]: calibrated, with mistakes of its own."""
    random = np.random.default_rng(seed)
    p = np.full((len(right), LABELS), (1 - accuracy) / (LABELS - 1))
    said = np.where(random.random(len(right)) < accuracy, right, random.integers(0, 4, len(right)))
    p[np.arange(len(right)), said] = accuracy
    return p


def world(*accuracies: float) -> Held:
    right = np.random.default_rng(0).integers(0, LABELS, N)
    p = np.stack([teacher(right, each, seed) for seed, each in enumerate(accuracies, 1)])
    return Held(tuple("abcde"[: len(p)]), p, right.tolist(), 0)


def accuracy(how: Combination, held: Held) -> float:
    return float((how.of_held(held).argmax(-1) == np.asarray(held.right)).mean())


def alone(held: Held) -> list[float]:
    return [float((p.argmax(-1) == np.asarray(held.right)).mean()) for p in held.p]


def test_three_of_their_own_are_better_than_each() -> None:
    held = world(0.8, 0.8, 0.8)
    pools: tuple[How, ...] = ("mean", "product")
    for how in pools:
        together = chosen(how, held.teachers, "equal", {}, None)
        assert accuracy(together, held) > max(alone(held)) + 0.04
    best = chosen("best", held.teachers, "equal", {}, held)
    assert accuracy(best, held) == max(alone(held))


def test_copies_outvote_and_weights_put_it_right() -> None:
    three = world(0.8, 0.8, 0.8)
    apart = chosen("mean", three.teachers, "equal", {}, None)
    held = Held(tuple("abcde"), three.p[[0, 0, 0, 1, 2]], three.right, 0)
    copies = chosen("mean", held.teachers, "equal", {}, None)
    assert accuracy(copies, held) == alone(three)[0] < accuracy(apart, three) - 0.02
    weighted = chosen("mean", held.teachers, "validated", {}, held)
    assert accuracy(weighted, held) > accuracy(copies, held) + 0.02
    assert sum(weighted.weights[name] for name in "abc") == pytest.approx(1 / 3, abs=0.1)


def test_who_is_too_sure_outvotes_a_better_one_and_temperatures_put_it_right() -> None:
    held = world(0.85, 0.6)
    p = np.stack([held.p[0], at_temperature(held.p[1], 0.1)])
    sure = Held(held.teachers, p, held.right, 0)
    outvoted = chosen("mean", sure.teachers, "equal", {}, None)
    assert accuracy(outvoted, sure) == pytest.approx(alone(sure)[1], abs=0.01)
    calibrated = chosen("mean", sure.teachers, "equal", "validated", sure)
    assert calibrated.temperatures["b"] == pytest.approx(10, rel=0.4)
    assert calibrated.temperatures["a"] == pytest.approx(1, rel=0.4)
    assert accuracy(calibrated, sure) >= alone(sure)[0] - 0.01
    both = chosen("mean", sure.teachers, "validated", "validated", sure)
    at = both.temperatures
    p = np.stack([at_temperature(each, at[name]) for name, each in zip("ab", sure.p, strict=True)])
    assert [*both.weights.values()] == stacked_weights(p, sure.right, "mean")
    assert log_loss(both.of_held(sure), sure.right) < log_loss(calibrated.of_held(sure), sure.right)


def test_who_does_not_count_is_not_there() -> None:
    how = chosen("mean", ("a", "b", "c"), {"a": 1, "b": 3, "c": 0}, {"b": 0.5}, None)
    assert how.weights == {"a": 0.25, "b": 0.75, "c": 0}
    assert how.of({"c": [0.5, 0.5]}) is None
    assert how.of({}) is None
    assert how.of({"a": [0.9, 0.1], "c": [0.0, 1.0]}) == pytest.approx([0.9, 0.1])
    squared = [0.64 / 0.68, 0.04 / 0.68]
    assert how.of({"a": [0.5, 0.5], "b": [0.8, 0.2]}) == pytest.approx(
        [0.125 + 0.75 * squared[0], 0.125 + 0.75 * squared[1]]
    )


def test_nothing_is_chosen_without_validation_rows() -> None:
    for how, weights, temperatures in (
        ("best", "equal", {}),
        ("mean", "validated", {}),
        ("mean", "equal", "validated"),
    ):
        with pytest.raises(ValueError, match="validation rows are needed"):
            chosen(how, ("a", "b"), weights, temperatures, None)  # type: ignore[arg-type]
