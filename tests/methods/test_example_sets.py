"""Sets of worked examples."""

from __future__ import annotations

from collections import Counter

from llm_distill.methods.example_sets import (
    accuracy,
    apart,
    best,
    drawn_failures,
    with_one_replaced,
)

EXAMPLES = [{"id": f"s{i}", "question": f"Q{i}?"} for i in range(3)]


def test_one_example_is_replaced_in_any_place() -> None:
    places = Counter()
    for i in range(300):
        new = {"id": f"t{i}", "question": "new?"}
        found = with_one_replaced(EXAMPLES, new, 0)
        places[found.index(new)] += 1
        assert sum(a == b for a, b in zip(found, EXAMPLES, strict=True)) == 2
    assert all(60 < places[i] < 140 for i in range(3))


def test_items_that_a_set_shows_are_left_out() -> None:
    items = [{"id": str(i), "question": q} for i, q in enumerate(["q0 ?", " Q1?", "q2?", "other"])]
    items[0]["question"] = "q0?"
    assert [item["id"] for item in apart(items, [EXAMPLES[:1], EXAMPLES[2:]])] == ["1", "3"]


def test_the_mean_is_over_items_and_students_and_ties_keep_the_first() -> None:
    right = {"a": [True, False], "b": [True, True], "c": [False, False]}
    assert accuracy(right, [{"id": "a"}, {"id": "b"}]) == 0.75
    assert best([0.5, 0.7, 0.7]) == 1
    assert best([0.7, 0.7]) == 0


def test_failures_are_on_different_items_in_any_order() -> None:
    failures = [{"id": f"t{i % 7}", "completion": f"wrong {i}"} for i in range(30)]
    found = drawn_failures(failures, 5, 3)
    assert len({failure["id"] for failure in found}) == len(found) == 5
    assert drawn_failures(failures[::-1], 5, 3) == found
    assert drawn_failures(failures, 5, 4) != found
    assert len(drawn_failures(failures, 99, 3)) == 7
