"""Loyalty of numbers: by the formulas one by one, of copies and shifts, and what is undefined."""

from __future__ import annotations

from random import Random
from statistics import correlation, fmean

import pytest

from llm_distill.methods.regression_loyalty import regression_loyalty


def numbers(n: int = 60, seed: int = 0) -> tuple[list[float], list[float]]:
    random = Random(seed)
    teacher = [random.gauss(50, 3) for _ in range(n)]
    return teacher, [of + random.gauss(1, 2) for of in teacher]


def values(teacher: list[float], student: list[float]) -> dict[str, float]:
    return {name: of.value for name, of in regression_loyalty(teacher, student).items()}


def test_by_the_formulas() -> None:
    teacher, student = numbers()
    found = values(teacher, student)
    mean = fmean(teacher)
    squared = sum((s - t) ** 2 for t, s in zip(teacher, student, strict=True))
    assert found["regression loyalty"] == pytest.approx(correlation(teacher, student))
    assert found["explained"] == pytest.approx(1 - squared / sum((t - mean) ** 2 for t in teacher))
    gaps = [s - t for t, s in zip(teacher, student, strict=True)]
    assert found["error"] == pytest.approx(fmean(map(abs, gaps)))
    assert found["bias"] == pytest.approx(fmean(gaps))


def test_intervals_are_those_of_items_drawn_again() -> None:
    teacher, student = numbers()
    random = Random(1)
    drawn = []
    for _ in range(3000):
        places = random.choices(range(60), k=60)
        drawn.append(correlation([teacher[i] for i in places], [student[i] for i in places]))
    drawn.sort()
    found = regression_loyalty(teacher, student)["regression loyalty"]
    assert found.low == pytest.approx(drawn[75], abs=0.02)
    assert found.high == pytest.approx(drawn[2924], abs=0.02)
    # Thousands away from 0 it is the same: sums of squares keep their digits.
    far = regression_loyalty([t + 1e6 for t in teacher], [s + 1e6 for s in student])
    assert far["regression loyalty"].low == pytest.approx(found.low, abs=1e-6)


def test_a_copy_and_one_that_is_always_too_high() -> None:
    teacher, _ = numbers()
    assert values(teacher, teacher) == pytest.approx(
        {"regression loyalty": 1, "explained": 1, "error": 0, "bias": 0}
    )
    high = values(teacher, [of + 4 for of in teacher])
    assert high["regression loyalty"] == pytest.approx(1)
    assert high["explained"] < 0
    assert high["bias"] == pytest.approx(4)
    always = values(teacher, [fmean(teacher)] * 60)
    assert always["explained"] == pytest.approx(0)
    assert "regression loyalty" not in always


def test_what_is_undefined_or_refused() -> None:
    assert set(values([3.0, 3.0], [1.0, 2.0])) == {"error", "bias"}
    few = regression_loyalty([1.0, 2.0], [1.0, 2.5])["regression loyalty"]
    assert few.value == pytest.approx(1)  # in half of the draws it is undefined
    with pytest.raises(ValueError, match="as many numbers"):
        regression_loyalty([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="finite"):
        regression_loyalty([1.0, float("nan")], [1.0, 2.0])
