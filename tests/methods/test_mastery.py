"""Mastery: intervals by simulation, orders by brute force, and the gate's figures."""

from __future__ import annotations

from itertools import permutations
from random import Random

import pytest

from llm_distill.methods.mastery import (
    Counts,
    accuracy_ratio,
    connectivity,
    mastery,
    missed,
    teaching_order,
)
from llm_distill.methods.statistics import wilson_interval

GRAPH = {"d": ["b", "c"], "b": ["a"], "c": ["a"], "e": []}
SKILLS = "abcde"


def test_the_order_is_the_first_by_name_of_all_that_respect_the_graph() -> None:
    fitting = [
        order
        for order in permutations(SKILLS)
        if all(order.index(n) < order.index(s) for s, own in GRAPH.items() for n in own)
    ]
    assert tuple(teaching_order(SKILLS, GRAPH)) == min(fitting)
    assert teaching_order(reversed(SKILLS), GRAPH) == teaching_order(SKILLS, GRAPH)


def test_a_circle_has_no_order() -> None:
    with pytest.raises(ValueError, match="circle"):
        teaching_order("ab", {"a": ["b"], "b": ["a"]})


def test_connectivity_counts_all_that_build_on_a_skill() -> None:
    assert connectivity(SKILLS, GRAPH) == {"a": 3 / 4, "b": 1 / 4, "c": 1 / 4, "d": 0, "e": 0}
    assert connectivity("a", {}) == {"a": 0}


@pytest.mark.parametrize(("p_s", "p_t", "n"), [(0.6, 0.9, 15), (0.9, 0.95, 40), (0.3, 0.5, 30)])
def test_the_interval_of_the_ratio_holds_as_often_as_it_says(
    p_s: float, p_t: float, n: int
) -> None:
    rng = Random(0)
    inside = total = 0
    for _ in range(4000):
        s, t = (sum(rng.random() < p for _ in range(n)) for p in (p_s, p_t))
        found = accuracy_ratio(Counts(s, n), Counts(t, n))
        if found is not None:
            assert found.low <= found.value <= found.high
            inside += found.low <= p_s / p_t <= found.high
            total += 1
    assert 0.93 <= inside / total <= 0.99


def test_without_a_teacher_it_is_the_students_accuracy() -> None:
    assert accuracy_ratio(Counts(3, 10), None) == wilson_interval(3, 10)
    large = accuracy_ratio(Counts(3, 10), Counts(10**7, 10**7))
    assert large is not None
    assert large.low == pytest.approx(wilson_interval(3, 10).low, abs=1e-4)
    assert large.high == pytest.approx(wilson_interval(3, 10).high, abs=1e-4)


def test_a_teacher_that_is_always_wrong_has_no_ratio_and_holds_nothing_up() -> None:
    student = {"a": Counts(0, 10), "b": Counts(0, 10)}
    teacher = {"a": Counts(0, 10), "b": Counts(10, 10)}
    a, b = mastery(student, teacher, {"b": ["a"]})
    assert (a.skill, a.ratio, a.gap, a.is_mastered, a.is_open, a.severity) == (
        "a", None, None, None, False, 0,
    )  # fmt: skip
    assert b.is_open


def test_a_skill_waits_for_what_it_builds_on() -> None:
    student = {"a": Counts(3, 20), "b": Counts(19, 20), "c": Counts(2, 20), "d": Counts(0, 20)}
    found = {m.skill: m for m in mastery(student, None, {"c": ["b"], "d": ["c"], "b": []})}
    assert {skill: m.is_mastered for skill, m in found.items()} == {
        "a": False, "b": True, "c": False, "d": False,
    }  # fmt: skip
    assert [skill for skill, m in found.items() if m.is_open] == ["a", "c"]
    assert found["c"].severity == pytest.approx(0.5 * 0.9 + 0.5 / 3)
    assert [m.order for m in mastery(student, None, {})] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("n_correct", "n", "is_mastered"),
    [
        (15, 15, True),
        (13, 15, True),  # 0.87: below 0.9, and its interval is not
        (11, 15, False),  # 0.73 (0.48 to 0.89): the interval is below
        (2, 3, False),  # a gap of 0.33, whatever its interval
        (700, 1000, False),
        (885, 1000, True),  # 0.885 (0.864 to 0.903)
        (870, 1000, False),
    ],
)
def test_a_ratio_is_held_against_a_student_only_if_its_interval_says_so(
    n_correct: int, n: int, is_mastered: bool
) -> None:
    (found,) = mastery({"a": Counts(n_correct, n)}, None, {})
    assert found.is_mastered is is_mastered


def test_a_perfect_student_passes_on_few_items_as_on_many() -> None:
    """A bare P_S / P_T ≥ 0.9 would hold back one in twelve whose accuracy is 0.95."""
    rng = Random(1)
    held_back = bare = 0
    for _ in range(2000):
        right = sum(rng.random() < 0.95 for _ in range(10))
        (found,) = mastery({"a": Counts(right, 10)}, None, {})
        held_back += not found.is_mastered
        bare += right / 10 < 0.9
    assert held_back / 2000 < 0.02 < 0.05 < bare / 2000


def test_unknown_prerequisites_are_told() -> None:
    with pytest.raises(ValueError, match="no item needs x"):
        mastery({"a": Counts(1, 2)}, None, {"a": ["x"]})


def test_what_was_missed() -> None:
    rows = [("1", ["a", "b"], False), ("2", ["a"], True), ("3", ["b"], False), ("4", [], False)]
    assert missed(rows) == {"a": ["1"], "b": ["1", "3"]}
