"""F1, confusions and calibration: by hand, and against loops over resampled items."""

from __future__ import annotations

from random import Random
from statistics import fmean

import numpy as np
import pytest

from llm_distill.methods.classification import (
    Bin,
    by_class,
    calibration,
    calibration_error,
    confusions,
    expected_calibration_error,
    macro_f1,
    macro_f1_difference,
)

TRUE = ["a", "a", "a", "b", "b", "c"]
SAID = ["a", "a", "b", "b", None, "x"]


def _by_hand(references: list[str], predictions: list[str | None]) -> float:
    """Macro-F1 by counting, class by class."""
    found = []
    for name in {*references}:
        pairs = list(zip(references, predictions, strict=True))
        hit = sum(r == p == name for r, p in pairs)
        wrong = sum(p == name != r for r, p in pairs)
        missed = sum(r == name != p for r, p in pairs)
        found.append(2 * hit / (2 * hit + wrong + missed))
    return fmean(found)


def test_each_class_by_hand() -> None:
    found = {each.label: each for each in by_class(TRUE, SAID)}
    assert (found["a"].precision, found["a"].recall, found["a"].f1) == (1, 2 / 3, 0.8)
    assert (found["b"].precision, found["b"].recall, found["b"].f1) == (0.5, 0.5, 0.5)
    assert (found["c"].precision, found["c"].recall, found["c"].f1) == (None, 0, 0)
    assert (found["x"].precision, found["x"].recall, found["x"].f1) == (0, None, 0)
    assert [found[name].n for name in "abcx"] == [3, 2, 1, 0]
    assert confusions(TRUE, SAID)["b", None] == 1


def test_macro_f1_is_over_the_classes_that_there_are() -> None:
    assert macro_f1(TRUE, SAID).value == pytest.approx((0.8 + 0.5 + 0) / 3)
    assert macro_f1(TRUE, TRUE) == macro_f1(TRUE, [*TRUE])
    assert macro_f1(TRUE, TRUE).value == macro_f1(TRUE, TRUE).low == 1
    with pytest.raises(ValueError, match="at least one item"):
        macro_f1([], [])


@pytest.mark.parametrize("seed", range(5))
def test_macro_f1_and_its_interval_by_brute_force(seed: int) -> None:
    random = Random(seed)
    n = 80
    references = random.choices("abcd", [8, 4, 2, 1], k=n)
    said = [
        r if random.random() < 0.7 else random.choice(["a", "b", "c", None]) for r in references
    ]
    found = macro_f1(references, said)
    assert found.value == pytest.approx(_by_hand(references, said))
    drawn = []
    for _ in range(3000):
        items = random.choices(range(n), k=n)
        drawn.append(_by_hand([references[i] for i in items], [said[i] for i in items]))
    low, high = np.quantile(drawn, (0.025, 0.975))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.015)


def test_a_difference_is_paired() -> None:
    random = Random(1)
    references = random.choices("abc", k=200)
    first = [r if random.random() < 0.6 else "a" for r in references]
    better = [r if random.random() < 0.3 else f for r, f in zip(references, first, strict=True)]
    found = macro_f1_difference(references, first, better)
    expected = macro_f1(references, better).value - macro_f1(references, first).value
    assert found.value == pytest.approx(expected)
    assert found.low > 0
    same = macro_f1_difference(references, first, first)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    apart = macro_f1(references, better).low - macro_f1(references, first).high
    assert found.low > apart  # narrower than two intervals beside each other


def test_the_order_of_items_does_not_matter() -> None:
    items = list(zip(TRUE * 5, SAID * 5, strict=True))
    mixed = Random(2).sample(items, len(items))
    turned = macro_f1([t for t, _ in mixed], [s for _, s in mixed])
    assert turned == macro_f1([t for t, _ in items], [s for _, s in items])


def test_calibration_by_hand() -> None:
    confidences, right = [0.95, 0.91, 0.55, 1.0, 0.0], [True, False, True, True, False]
    bins = calibration(confidences, right)
    assert bins == [
        Bin(0.0, 0.1, 0.0, 0, 1),
        Bin(0.5, 0.6, 0.55, 1, 1),
        Bin(0.9, 1.0, pytest.approx((0.95 + 0.91 + 1) / 3), 2, 3),
    ]
    error = expected_calibration_error(bins)
    assert error == pytest.approx((0 + 0.45 + 3 * abs(2 / 3 - 2.86 / 3)) / 5)
    with pytest.raises(ValueError, match="within 0 to 1"):
        calibration([1.2], [True])
    with pytest.raises(ValueError, match="needs predictions"):
        expected_calibration_error([])


def test_who_says_what_it_knows_is_calibrated() -> None:
    random = Random(5)
    confidences = [random.random() for _ in range(20_000)]
    right = [random.random() < p for p in confidences]
    assert expected_calibration_error(calibration(confidences, right)) < 0.015
    boasts = [min(1.0, p + 0.2) for p in confidences]
    assert expected_calibration_error(calibration(boasts, right)) == pytest.approx(0.18, abs=0.02)


def _asked(random: Random, n: int, boast: float) -> tuple[list[float], list[bool]]:
    """Confidences that are `boast` too high, and what was right."""
    likely = [random.uniform(0.3, 0.9) for _ in range(n)]
    return [p + boast for p in likely], [random.random() < p for p in likely]


def test_a_calibration_errors_interval_holds_the_true_one() -> None:
    random = Random(3)
    for boast in (0.0, 0.1):
        found = [calibration_error(*_asked(random, 200, boast)) for _ in range(10)]
        assert sum(each.low <= boast + 0.002 and boast <= each.high for each in found) >= 9
        for each in found:
            assert 0 <= each.low <= each.value <= each.high <= 1


def test_a_model_that_is_sure_and_right_may_as_well_be_calibrated() -> None:
    """Where no item varies, it is the confidences that say how much one could."""
    assert calibration_error([0.995] * 100, [True] * 100).low == 0
    random = Random(6)
    found = []
    for _ in range(100):
        likely = [random.uniform(0.9, 1.0) for _ in range(200)]
        found.append(calibration_error(likely, [random.random() < p for p in likely]))
    assert sum(each.low == 0 for each in found) >= 95


def test_a_calibration_errors_interval_by_brute_force() -> None:
    random = Random(4)
    confidences, right = _asked(random, 120, 0.1)

    def gaps(items: list[int]) -> list[float]:
        found = [0.0] * 10
        for i in items:
            found[min(int(confidences[i] * 10), 9)] += (right[i] - confidences[i]) / len(items)
        return found

    own = gaps([*range(120)])
    apart = []
    for _ in range(3000):
        drawn = gaps(random.choices(range(120), k=120))
        apart.append(sum(abs(a - b) for a, b in zip(own, drawn, strict=True)))
    found = calibration_error(confidences, right)
    assert found.value == pytest.approx(sum(map(abs, own)))
    reach = float(np.quantile(apart, 0.95))
    assert found.high - found.value == pytest.approx(reach, abs=0.01)
    assert found.low == pytest.approx(max(0, found.value - reach), abs=0.01)
    assert calibration_error(confidences, right) == found


def test_a_calibration_error_of_one_item_or_none() -> None:
    assert calibration_error([0.7], [True]).value == pytest.approx(0.3)
    with pytest.raises(ValueError, match="needs predictions"):
        calibration_error([], [])
