"""Verdicts of several judges."""

from __future__ import annotations

from itertools import permutations

import pytest

from llm_distill.methods.verdicts import mean_grade, most_say, root_mean_square


def test_grades_are_averaged_over_those_that_are_there() -> None:
    assert mean_grade([1.0, None, 4.0]) == 2.5
    assert mean_grade([None, None]) is None


def test_the_majority_does_not_depend_on_who_comes_first() -> None:
    for said, wanted in (
        (("a", "a", "b"), "a"),
        (("a", "b", None), "tie"),
        (("tie", "b", "b"), "b"),
    ):
        assert {most_say(order) for order in permutations(said)} == {wanted}
    assert most_say([None]) is None
    assert most_say(["a", "tie"]) == "tie"


def test_the_root_of_the_mean_square() -> None:
    found = root_mean_square([3.0, -4.0])
    assert found.value == pytest.approx(12.5**0.5)
    assert found.low == pytest.approx(3.0)
    assert found.high == pytest.approx(4.0)
