"""Two models on the same items: who is better, and what cannot be compared."""

from __future__ import annotations

import random
from statistics import fmean

import pytest

from llm_distill.methods.exam_pairs import Answered, Pair, paired
from llm_distill.methods.statistics import Estimate, paired_bootstrap


def answers(right: list[list[bool]], text: str = "q") -> dict[str, Answered]:
    return {f"t{i}": Answered(each, f"{text}{i}") for i, each in enumerate(right)}


def drawn(share: float, n: int, samples: int = 1) -> list[list[bool]]:
    chance = random.Random(f"{share} {n}")
    return [[chance.random() < share for _ in range(samples)] for _ in range(n)]


def test_it_is_the_bootstrap_of_evaluate() -> None:
    first, second = drawn(0.6, 80, 3), drawn(0.5, 80, 3)
    found = paired({"a": answers(first), "b": answers(second)})
    assert found.accuracy == pytest.approx(fmean(map(fmean, first)))
    assert found.other == pytest.approx(fmean(map(fmean, second)))
    means = [list(map(fmean, of)) for of in (second, first)]
    assert found.difference == paired_bootstrap(*means)
    turned = dict(reversed(answers(first).items()))
    assert paired({"a": turned, "b": answers(second)}) == found
    back = paired({"b": answers(second), "a": answers(first)}).difference
    assert back.value == pytest.approx(-found.difference.value)


@pytest.mark.parametrize(
    ("low", "high", "tolerance", "verdict"),
    [
        (-0.2, -0.01, 0, "worse"),
        (-0.2, 0.0, 0, "undecided"),
        (0.0, 0.2, 0, "undecided"),
        (0.01, 0.2, 0, "better"),
        (-0.2, -0.01, 0.05, "undecided"),
        (-0.2, -0.06, 0.05, "worse"),
        (0.01, 0.2, 0.05, "undecided"),
        (0.06, 0.2, 0.05, "better"),
        (0.0, 0.0, 0, "undecided"),
    ],
)
def test_verdicts(low: float, high: float, tolerance: float, verdict: str) -> None:
    pair = Pair(0.5, 0.5, Estimate((low + high) / 2, low, high), 100)
    assert pair.verdict(tolerance) == verdict


def test_equal_models_are_rarely_told_apart() -> None:
    verdicts = []
    for seed in range(100):
        chance = random.Random(seed)
        both = [[[chance.random() < 0.7] for _ in range(100)] for _ in range(2)]
        pair = paired({"a": answers(both[0]), "b": answers(both[1])})
        verdicts.append(pair.verdict(0))
    assert verdicts.count("undecided") >= 88  # 95 expected


def test_what_cannot_be_compared() -> None:
    two = answers([[True], [False]])
    for other, message in (
        (answers([[True]]), "'b' did not answer 1 item, such as t1"),
        (answers([[True]] * 3), "'a' did not answer 1 item, such as t2"),
        (answers([[True], [False]], "p"), "what was asked is not the same in 2 items, such as t0"),
        (answers([[True], [False, True]]), "one model answered more often .* 1 item, such as t1"),
    ):
        with pytest.raises(ValueError, match=message):
            paired({"a": two, "b": other})
    with pytest.raises(ValueError, match="an interval needs two items, and there is 1"):
        paired({"a": answers([[True]]), "b": answers([[True]])})
