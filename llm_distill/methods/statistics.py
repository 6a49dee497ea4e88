"""Intervals for measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from statistics import fmean, stdev
from typing import Any

Z_95 = 1.959963984540054
DRAWS = 10_000
"""Bootstrap samples of an interval. Their seed is fixed: the same values have the same interval."""

RANKED_DRAWS = 1000
"""Of a rank correlation: the values are ranked anew for each."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


def wilson_interval(n_correct: int, n: int) -> Estimate:
    """A share with Wilson's score interval (1927), which holds near 0 and 1 and for small n.

    Raises:
        ValueError: n is not positive, or n_correct is not within 0 to n.
    """
    if n <= 0 or not 0 <= n_correct <= n:
        raise ValueError(f"{n_correct} of {n} is not a share")
    share, z2 = n_correct / n, Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 * sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half))


def bootstrap(values: Sequence[float]) -> Estimate:
    """The mean over items with the percentile bootstrap interval.

    Items are drawn with replacement (Efron & Tibshirani 1993, ch. 13). Give the mean of several
    answers to one item as one value: they are not independent, items are.

    Raises:
        ValueError: there are no values.
    """
    import numpy as np

    if not values:
        raise ValueError("a mean needs at least one value")
    array = np.asarray(values, dtype=float)
    random = np.random.default_rng(0)
    block = max(1, 10_000_000 // len(array))  # bounds the memory of the drawn indices
    means: list[Any] = []
    for start in range(0, DRAWS, block):
        size = (min(block, DRAWS - start), len(array))
        means.append(array[random.integers(0, len(array), size)].mean(axis=1))
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return Estimate(float(array.mean()), float(low), float(high))


def bootstrap_shares(counts: Sequence[Sequence[float]]) -> list[Estimate]:
    """Each column's share of the sum of all counts, with the percentile bootstrap interval.

    Items are drawn with replacement, as in `bootstrap`: the counts of one item are not independent.

    Args:
        counts: [n_items, n_columns], such as which labels an item has.

    Raises:
        ValueError: there are no items, a count is negative, or all counts of an item are 0: if only
            such items were drawn, no share would be defined.
    """
    import numpy as np

    table = np.asarray(counts, dtype=float)
    if table.ndim != 2 or not len(table) or (table < 0).any() or (table.sum(axis=1) == 0).any():
        raise ValueError("shares need items, and every item a positive count")
    sums = drawn_sums(table)
    low, high = np.quantile(sums / sums.sum(axis=1, keepdims=True), (0.025, 0.975), axis=0)
    shares = table.sum(axis=0) / table.sum()
    return [Estimate(*map(float, ends)) for ends in zip(shares, low, high, strict=True)]


def drawn_sums(table: Any) -> Any:
    """[DRAWS, n_columns]: the sums over items, drawn with replacement, of [n_items, n_columns]."""
    import numpy as np

    n = len(table)
    random = np.random.default_rng(0)
    block = max(1, 10_000_000 // n)  # bounds the memory of how often each item is drawn
    found: list[Any] = []
    for start in range(0, DRAWS, block):
        often = random.multinomial(n, np.full(n, 1 / n), size=min(block, DRAWS - start))
        found.append(often @ table)
    return np.concatenate(found)


def ratio_of_sums(pairs: Sequence[tuple[float, float]]) -> Estimate:
    """Σ first / Σ second over items with the percentile bootstrap interval over items.

    Such as a mean over the tokens of texts, which are drawn as a whole.

    Raises:
        ValueError: there are no items, or a second value is not positive.
    """
    import numpy as np

    table = np.asarray(pairs, dtype=float)
    if table.ndim != 2 or (table[:, 1] <= 0).any():
        raise ValueError("a ratio of sums needs items, each with a positive second value")
    sums = drawn_sums(table)
    low, high = np.quantile(sums[:, 0] / sums[:, 1], (0.025, 0.975))
    total = table.sum(axis=0)
    return Estimate(float(total[0] / total[1]), float(low), float(high))


def paired_bootstrap(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """`bootstrap` of second − first over the same items: each is drawn with both its values.

    Raises:
        ValueError: the two differ in length, or are empty.
    """
    return bootstrap([after - before for before, after in zip(first, second, strict=True)])


def crossed_bootstrap(values: Sequence[Sequence[float]]) -> Estimate:
    """The mean over runs and items with a 95 % interval over both: for new seeds and new items.

    Runs and items are drawn with replacement, each by itself (Owen 2007, "The pigeonhole
    bootstrap"). A few runs are too few to draw from: where Student's t over the runs' means
    (`mean_interval`) reaches further, that end counts. For a difference give the differences of
    the same run and item.

    Args:
        values: [n_runs, n_items], the items in the same order in each run.

    Raises:
        ValueError: there are fewer than two runs or two items, or the runs have different items.
    """
    import numpy as np

    if len({len(run) for run in values}) != 1 or min(len(values), len(values[0])) < 2:
        raise ValueError("an interval over runs and items needs two of each, and no gaps")
    table = np.asarray(values, dtype=float)
    n_runs, n_items = table.shape
    means: list[Any] = []
    for runs, items in _crossed_draws(n_runs, n_items):
        by_run = items.astype(float) @ table.T / n_items
        means.append((by_run * runs).sum(axis=1) / n_runs)
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    of_runs = mean_interval(table.mean(axis=1).tolist())
    return Estimate(
        float(table.mean()), min(float(low), of_runs.low), max(float(high), of_runs.high)
    )


@lru_cache(maxsize=2)
def _crossed_draws(n_runs: int, n_items: int) -> list[tuple[Any, Any]]:
    """How often each run and each item is drawn, in blocks of bootstrap samples.

    Kept, because drawing takes far longer than what is done with it, and a table has many figures
    of one shape. A byte is enough: that an item is drawn 256 times does not happen.
    """
    import numpy as np

    random = np.random.default_rng(0)
    blocks = []
    for start in range(0, DRAWS, 1000):  # bounds the memory of a block as floats
        size = min(1000, DRAWS - start)
        runs = random.multinomial(n_runs, np.full(n_runs, 1 / n_runs), size=size)
        items = random.multinomial(n_items, np.full(n_items, 1 / n_items), size=size)
        blocks.append((runs, items.astype(np.uint8)))
    return blocks


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> float:
    """The exact two-sided p-value of McNemar's test (1947) for right answers to the same items.

    Only items that one got right and the other wrong count; if both were equally good, each of
    these would be a coin toss. 1 if there are none.

    Raises:
        ValueError: the two differ in length.
    """
    from scipy.stats import binomtest

    pairs = list(zip(first, second, strict=True))
    lost = sum(before and not after for before, after in pairs)
    won = sum(after and not before for before, after in pairs)
    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0


def mean_interval(values: Sequence[float]) -> Estimate:
    """The mean of independent runs with Student's t interval.

    Raises:
        ValueError: fewer than two values.
    """
    from scipy.stats import t

    n = len(values)
    if n < 2:
        raise ValueError("an interval needs at least two values")
    half = float(t.ppf(0.975, n - 1)) * stdev(values) / sqrt(n)
    return Estimate(fmean(values), fmean(values) - half, fmean(values) + half)


def rank_correlation(groups: Sequence[Sequence[tuple[float, float]]]) -> Estimate | None:
    """Spearman's rank correlation, −1 to 1, with the percentile bootstrap interval over items.

    Args:
        groups: For each item its pairs of values, which are drawn together: they are not
            independent.

    Returns:
        None if it is undefined: there are fewer than two pairs, or one side is all the same.
    """
    import numpy as np
    from scipy.stats import rankdata

    def of(chosen: Sequence[Any]) -> float | None:
        pairs = np.concatenate(chosen)
        if len(pairs) < 2 or (pairs == pairs[0]).all(axis=0).any():
            return None
        first, second = rankdata(pairs[:, 0]), rankdata(pairs[:, 1])
        return float(np.corrcoef(first, second)[0, 1])

    items = [np.asarray(group, dtype=float) for group in groups if group]
    value = of(items) if items else None
    if value is None:
        return None
    random = np.random.default_rng(0)
    drawn = (
        of([items[i] for i in random.integers(0, len(items), len(items))])
        for _ in range(RANKED_DRAWS)
    )
    low, high = np.quantile([each for each in drawn if each is not None], (0.025, 0.975))
    return Estimate(value, float(low), float(high))
