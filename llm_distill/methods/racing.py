"""Which candidates of an exam need not go on: a race that ends early for those in the middle.

Preference pairs use of each question its best and its worst rationale, and of all questions the top
and the bottom quantile. A candidate is out once neither can still be in doubt because of it: it is
neither the best nor the worst of its question, and its question is at the top, at the bottom or
between them, whatever the items that it has not been asked yet. ARTE (arXiv 2406.19227) scores
every candidate on every item; the race is this project's.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Candidate = TypeVar("Candidate", bound=Hashable)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Standing:
    """n_correct of the n_seen items that were asked so far; n_total are to be asked in all."""

    n_correct: int
    n_seen: int
    n_total: int


def still_racing(
    questions: Mapping[str, Sequence[Candidate]],
    standings: Mapping[Candidate, Standing],
    *,
    quantile: float,
    error: float,
) -> set[Candidate]:
    """The candidates that could change a pair and have items left.

    questions: the candidates of each question of one task; one may stand under several.
    quantile: the share of questions at the top, and at the bottom, that pairs are drawn from.
    error: how likely one comparison that is taken for sure may turn out the other way.
    """
    forecasts = {name: forecast(standing) for name, standing in standings.items()}
    settled = _settled(questions, forecasts, quantile, error)
    racing: set[Candidate] = set()
    for members, is_settled in zip(questions.values(), settled, strict=True):
        means, variances = np.array([forecasts[name] for name in members]).T
        above = _surely_above(means, variances, error)
        in_the_middle = above.any(axis=0) & above.any(axis=1)
        for name, is_out in zip(members, in_the_middle & is_settled, strict=True):
            if not is_out and standings[name].n_seen < standings[name].n_total:
                racing.add(name)
    return racing


def forecast(standing: Standing) -> tuple[float, float]:
    """Mean and variance of the accuracy over all items, given the answers so far.

    The answers that are left are beta-binomial under a uniform prior: there are exactly
    n_total - n_seen of them, so the variance is 0 when all were asked.
    """
    left = standing.n_total - standing.n_seen
    a, b = standing.n_correct + 1, standing.n_seen - standing.n_correct + 1
    mean = left * a / (a + b)
    variance = left * a * b * (a + b + left) / ((a + b) ** 2 * (a + b + 1))
    return (standing.n_correct + mean) / standing.n_total, variance / standing.n_total**2


def _surely_above(means: Floats, variances: Floats, error: float) -> NDArray[np.bool_]:
    """[i, j]: i will end above j, but for a chance of `error`, as a normal difference has it."""
    from scipy.stats import norm

    spread = np.sqrt(variances[:, None] + variances[None, :])
    above: NDArray[np.bool_] = means[:, None] - means[None, :] > norm.isf(error) * spread + 1e-9
    return above


def _settled(
    questions: Mapping[str, Sequence[Candidate]],
    forecasts: Mapping[Candidate, tuple[float, float]],
    quantile: float,
    error: float,
) -> NDArray[np.bool_]:
    """Which questions are sure to be in, or out of, the top quantile and the bottom one."""
    scores = [np.array([forecasts[name] for name in group]) for group in questions.values()]
    means = np.array([score[:, 0].mean() for score in scores])
    variances = np.array([score[:, 1].sum() / len(score) ** 2 for score in scores])
    above = _surely_above(means, variances, error)
    better, worse = above.sum(axis=0), above.sum(axis=1)  # how many surely end above it, below it
    n = len(means)
    size = min(max(1, int(n * quantile)), n // 2)
    top = (better >= size) | (n - 1 - worse < size)
    bottom = (worse >= size) | (n - 1 - better < size)
    settled: NDArray[np.bool_] = top & bottom
    return settled
