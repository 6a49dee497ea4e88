"""Micro- and macro-F1 of sets of labels: by counting, and against scikit-learn."""

from __future__ import annotations

from random import Random

import pytest

from llm_distill.methods.label_sets import by_label, set_figures, set_figures_difference

RIGHT = [{"a"}, {"a", "b"}, set(), {"b"}, {"c"}, {"a"}]
SAID = [{"a"}, {"a"}, {"d"}, {"b", "c"}, set(), {"b"}]


def test_by_hand() -> None:
    found = {each.label: (each.precision, each.recall, each.f1, each.n) for each in
             by_label(RIGHT, SAID)}  # fmt: skip
    assert found == {
        "a": (1, 2 / 3, 4 / 5, 3),
        "b": (1 / 2, 1 / 2, 1 / 2, 2),
        "c": (0, 0, 0, 1),
        "d": (0, None, 0, 0),
    }
    figures = set_figures(RIGHT, SAID)
    assert figures.micro.value == pytest.approx(2 * 3 / (6 + 6))
    assert figures.macro.value == pytest.approx((4 / 5 + 1 / 2 + 0) / 3)  # nobody has `d`
    assert figures.micro.low < figures.micro.value < figures.micro.high
    with pytest.raises(ValueError, match="needs a right label"):
        set_figures([set()], [{"a"}])


def test_against_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    random, names = Random(0), "abcde"
    right = [{n for n in names if random.random() < 0.3} for _ in range(80)]
    said = [{n for n in names if (n in of) ^ (random.random() < 0.2)} for of in right]
    tables = [[[n in of for n in names] for of in sets] for sets in (right, said)]
    found = set_figures(right, said)
    for average, estimate in (("micro", found.micro), ("macro", found.macro)):
        assert estimate.value == pytest.approx(metrics.f1_score(*tables, average=average))


def test_the_order_of_items_does_not_matter_and_a_pair_is_drawn_together() -> None:
    assert set_figures(RIGHT, SAID) == set_figures(RIGHT[::-1], SAID[::-1])
    same = set_figures_difference(RIGHT, SAID, SAID)
    assert (same.micro.low, same.micro.high, same.macro.value) == (0, 0, 0)
    better = set_figures_difference(RIGHT, SAID, RIGHT)
    assert better.micro.value == pytest.approx(1 - 0.5)
    assert better.macro.low > 0
