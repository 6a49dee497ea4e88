"""assignment: the draw of a row is its own, and chances are as the weights."""

from __future__ import annotations

from collections import Counter

import pytest

from llm_distill.methods.assignment import assigned


def test_chances_are_as_the_weights() -> None:
    weights = {"a": 1.0, "b": 2.0, "c": 5.0}
    counts = Counter(assigned(weights, 3, f"row {number}") for number in range(8000))
    for name, weight in weights.items():
        assert counts[name] == pytest.approx(1000 * weight, abs=4 * (1000 * weight) ** 0.5)


def test_only_the_seed_and_the_id_decide() -> None:
    weights = {"a": 1.0, "b": 1.0}
    first = [assigned(weights, 0, str(number)) for number in range(50)]
    assert first == [assigned(weights, 0, str(number)) for number in range(50)]
    assert first != [assigned(weights, 1, str(number)) for number in range(50)]
    assert [assigned({"a": 3.0, "b": 3.0}, 0, str(n)) for n in range(50)] == first
    assert assigned({"only": 0.1}, 0, "x") == "only"
    with pytest.raises(ValueError, match="nothing to draw from"):
        assigned({}, 0, "x")
