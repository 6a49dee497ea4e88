"""Intervals against statsmodels' definitions, brute force and coverage."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest, spearmanr, ttest_1samp

from llm_distill.methods.statistics import (
    bootstrap,
    crossed_bootstrap,
    mcnemar,
    mean_interval,
    paired_bootstrap,
    rank_correlation,
    ratio_of_sums,
    wilson_interval,
)


@pytest.mark.parametrize(("right", "n"), [(0, 5), (5, 5), (1, 40), (20, 40), (333, 1000)])
def test_wilson_is_scipys(right: int, n: int) -> None:
    found = wilson_interval(right, n)
    expected = binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert found.value == right / n
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("right", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_no_share_is_refused(right: int, n: int) -> None:
    with pytest.raises(ValueError, match="not a share"):
        wilson_interval(right, n)


def test_a_ratio_of_sums_against_every_resample() -> None:
    pairs = [(1.0, 2.0), (0.0, 1.0), (5.0, 4.0), (-1.0, 1.0)]
    every = [np.sum([pairs[i] for i in draw], 0) for draw in itertools.product(range(4), repeat=4)]
    found = ratio_of_sums(pairs)
    assert found.value == 5 / 8
    expected = np.quantile([first / second for first, second in every], (0.025, 0.975))
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.05)
    with pytest.raises(ValueError, match="positive second value"):
        ratio_of_sums([(1.0, 0.0)])


def test_bootstrap_against_every_resample() -> None:
    first, second = [0.0, 1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0, 1.0]
    difference = np.subtract(second, first)
    every = [difference[list(i)].mean() for i in itertools.product(range(5), repeat=5)]
    found = paired_bootstrap(first, second)
    assert found.value == pytest.approx(0.2)
    low, high = np.quantile(every, (0.025, 0.975))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)  # steps of 0.2


def test_bootstrap_is_seeded_and_paired() -> None:
    random = np.random.default_rng(0)
    first = random.random(50).tolist()
    shifted = [value + 0.25 for value in first]
    constant = paired_bootstrap(first, shifted)
    assert (constant.low, constant.high) == pytest.approx((0.25, 0.25))
    other = random.random(50).tolist()
    assert paired_bootstrap(first, other) == paired_bootstrap(first, other)
    with pytest.raises(ValueError, match="longer"):
        paired_bootstrap([1.0], [1.0, 0.0])


def test_the_t_interval_is_scipys() -> None:
    values = [0.31, 0.42, 0.39, 0.35, 0.44]
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    found = mean_interval(values)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.value == pytest.approx(np.mean(values))
    with pytest.raises(ValueError, match="two"):
        mean_interval([0.3])


def test_bootstrap_of_a_mean_against_every_resample() -> None:
    values = [0.0, 0.25, 1.0, 0.5]
    every = [np.mean(drawn) for drawn in itertools.product(values, repeat=4)]
    found = bootstrap(values)
    low, high = np.quantile(every, (0.025, 0.975))
    assert found.value == pytest.approx(np.mean(values))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.0626)  # a step
    with pytest.raises(ValueError, match="at least one"):
        bootstrap([])


def test_mcnemar_against_every_toss() -> None:
    first = [True] * 3 + [False] * 6 + [True, False]
    second = [False] * 1 + [True] * 2 + [True] * 5 + [False] * 1 + [True, False]
    won, lost = 5, 1
    tosses = [sum(toss) for toss in itertools.product((0, 1), repeat=won + lost)]
    as_far = sum(abs(t - 3) >= abs(won - 3) for t in tosses)
    assert mcnemar(first, second) == pytest.approx(as_far / len(tosses))
    assert mcnemar(second, first) == mcnemar(first, second)
    assert mcnemar(first, first) == 1.0
    with pytest.raises(ValueError, match="shorter"):
        mcnemar([True], [])


def test_crossed_bootstrap_against_every_resample() -> None:
    """Runs with equal means, so that their t interval is a point."""
    table = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    draws = list(itertools.product(range(3), repeat=3))
    every = [table[np.ix_(runs, items)].mean() for runs in draws for items in draws]
    found = crossed_bootstrap(table.tolist())
    assert found.value == pytest.approx(6 / 9)
    # Values are ninths, so a quantile of draws falls on the same ninth.
    assert (found.low, found.high) == pytest.approx(np.quantile(every, (0.025, 0.975)), abs=1e-9)


def test_crossed_bootstrap_is_no_narrower_than_t_over_runs() -> None:
    table = [[0.1, 0.1], [0.9, 0.9], [0.4, 0.4]]
    found, of_runs = crossed_bootstrap(table), mean_interval([0.1, 0.9, 0.4])
    assert (found.low, found.high) == pytest.approx((of_runs.low, of_runs.high))


@pytest.mark.parametrize("n_runs", [5, 20])
def test_crossed_bootstrap_covers_new_runs_and_new_items(n_runs: int) -> None:
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(60):
        runs = random.normal(0, 0.05, (n_runs, 1))
        items = random.normal(0, 0.2, (1, 60))
        found = crossed_bootstrap(runs + items + random.normal(0, 0.3, (n_runs, 60)))
        covered += found.low <= 0 <= found.high
    assert covered >= 54


@pytest.mark.parametrize("values", [[], [[1.0, 0.0]], [[1.0], [0.0]], [[1.0, 0.0], [1.0]]])
def test_crossed_bootstrap_needs_a_full_table(values: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="runs and items"):
        crossed_bootstrap(values)


def test_a_rank_correlation_is_scipys_and_its_items_are_drawn_whole() -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=80)
    y = np.round(x + random.normal(size=80), 1)  # with ties
    pairs = list(zip(x.tolist(), y.tolist(), strict=True))
    found = rank_correlation([[pair] for pair in pairs])
    assert found is not None
    assert found.value == pytest.approx(spearmanr(x, y).statistic)
    assert found.low < found.value < found.high
    copied = rank_correlation([[pair] * 9 for pair in pairs])  # copies say nothing new
    assert copied is not None
    assert (copied.low, copied.high) == pytest.approx((found.low, found.high), abs=0.03)
    assert rank_correlation([]) is None
    assert rank_correlation([[(1.0, 2.0)], [], [(1.0, 3.0)]]) is None
