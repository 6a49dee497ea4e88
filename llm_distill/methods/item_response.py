"""Two-parameter logistic (2PL) item response: which items tell examinees apart.

An examinee of ability θ answers item j with probability 1 / (1 + exp(-a_j (θ - b_j))): a is the
discrimination, b the difficulty. Fitted by marginal maximum likelihood with an EM algorithm over
a grid of abilities (Bock and Aitkin, Psychometrika 46, 1981), θ ~ N(0, 1).

The slope's prior is N(1, 1), not the usual lognormal: a lognormal slope is never negative, and an
item that better examinees miss must be recognised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

SLOPE_PRIOR = (1.0, 1.0)  # mean, standard deviation
INTERCEPT_PRIOR = (0.0, 3.0)
MIN_EXAMINEES = 3


@dataclass(frozen=True)
class ItemParameters:
    """discrimination, difficulty: [n_items]. ability: [n_examinees], posterior means.

    The difficulty of an item with a slope of 0 is NaN.
    """

    discrimination: Array
    difficulty: Array
    ability: Array


def fit_2pl(responses: npt.ArrayLike, *, tolerance: float = 1e-4) -> ItemParameters:
    """The parameters of every item and the ability of every examinee.

    Args:
        responses: [n_examinees, n_items] of 0 and 1. Leave out items that all or none answer: their
            slope is only the prior's.
        tolerance: EM stops once no slope or intercept changes by more, or after 500 steps.

    Raises:
        ValueError: the matrix is empty or has other values than 0 and 1.
    """
    y = np.asarray(responses, dtype=np.float64)
    if y.ndim != 2 or y.size == 0 or not np.isin(y, (0.0, 1.0)).all():
        raise ValueError("responses must be a [n_examinees, n_items] matrix of 0 and 1, not empty")
    grid = np.linspace(-4.0, 4.0, 41)
    share = np.clip(y.mean(axis=0), 0.02, 0.98)
    slope, intercept = np.ones(y.shape[1]), np.log(share / (1 - share))
    posterior = _ability_posterior(y, slope, intercept, grid)
    for _ in range(500):
        before = slope, intercept
        n_at, right_at = posterior.sum(axis=0), posterior.T @ y
        for _ in range(3):
            slope, intercept = _newton_step(slope, intercept, grid, n_at, right_at)
        posterior = _ability_posterior(y, slope, intercept, grid)
        change = max(np.abs(slope - before[0]).max(), np.abs(intercept - before[1]).max())
        if change < tolerance:
            break
    safe = np.where(np.abs(slope) < 1e-6, np.nan, slope)
    return ItemParameters(slope, -intercept / safe, posterior @ grid)


def _ability_posterior(y: Array, slope: Array, intercept: Array, grid: Array) -> Array:
    """[n_examinees, n_grid]: the E step."""
    z = grid[:, None] * slope + intercept
    log_likelihood = y @ -np.logaddexp(0, -z).T + (1 - y) @ -np.logaddexp(0, z).T
    log_joint = log_likelihood - 0.5 * grid**2
    weights = np.exp(log_joint - log_joint.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _newton_step(
    slope: Array, intercept: Array, grid: Array, n_at: Array, right_at: Array
) -> tuple[Array, Array]:
    """One Newton step for all items at once; their expected log posteriors are concave.

    Args:
        slope: [n_items].
        intercept: [n_items].
        grid: [n_grid] abilities.
        n_at: [n_grid] examinees expected at each ability.
        right_at: [n_grid, n_items], those of them that answer the item.
    """
    theta, n = grid[:, None], n_at[:, None]
    p = 1 / (1 + np.exp(-(theta * slope + intercept)))
    residual, weight = right_at - n * p, n * p * (1 - p)
    (mean_a, sd_a), (mean_d, sd_d) = SLOPE_PRIOR, INTERCEPT_PRIOR
    gradient_a = (residual * theta).sum(axis=0) - (slope - mean_a) / sd_a**2
    gradient_d = residual.sum(axis=0) - (intercept - mean_d) / sd_d**2
    h_aa = (weight * theta**2).sum(axis=0) + 1 / sd_a**2
    h_ad = (weight * theta).sum(axis=0)
    h_dd = weight.sum(axis=0) + 1 / sd_d**2
    determinant = h_aa * h_dd - h_ad**2
    step_a = (h_dd * gradient_a - h_ad * gradient_d) / determinant
    step_d = (h_aa * gradient_d - h_ad * gradient_a) / determinant
    return slope + np.clip(step_a, -0.5, 0.5), intercept + np.clip(step_d, -1.0, 1.0)


@dataclass(frozen=True)
class Chosen:
    """One selected item; discrimination and difficulty are None if it was drawn at random."""

    index: int
    discrimination: float | None
    difficulty: float | None


@dataclass(frozen=True)
class Choice:
    """Selected items in the order of the matrix, and what was found.

    n_examinees counts different rows: one that answers like another adds nothing.
    """

    items: tuple[Chosen, ...]
    n_examinees: int
    n_uninformative: int
    n_negative: int
    fitted: bool


def choose_items(responses: npt.ArrayLike, n: int, order: Sequence[int]) -> Choice:
    """The `n` items with the highest positive discrimination.

    Items that all or none answer are not fitted, and those of negative slope are never taken.
    With fewer than 3 different examinees nothing is fitted and the choice is random; with too few
    items of positive slope the rest is drawn from the uninformative ones.

    Args:
        responses: [n_examinees, n_items] of 0 and 1; n_examinees may be 0.
        n: how many items are wanted.
        order: [n_items] random numbers, which break ties and decide what is drawn at random. With
            few examinees many items have the same answers, and the file's order must not decide.
    """
    y = np.asarray(responses, dtype=np.float64)
    n_examinees = len(np.unique(y, axis=0))
    right = y.sum(axis=0)
    informative = [int(i) for i in np.flatnonzero((right > 0) & (right < len(y)))]
    fitted = n_examinees >= MIN_EXAMINEES and len(informative) >= 2
    slopes: dict[int, float] = {}
    places: dict[int, float] = {}
    if fitted:
        found = fit_2pl(y[:, informative])
        # The slopes of equal columns may differ in the last bits; rounding makes them ties.
        slopes = dict(zip(informative, found.discrimination.round(6).tolist(), strict=True))
        places = dict(zip(informative, found.difficulty.tolist(), strict=True))
    positive = [index for index, slope in slopes.items() if slope > 0]
    best = sorted(positive, key=lambda index: (-slopes[index], order[index]))[:n]
    others = [index for index in range(y.shape[1]) if index not in slopes]
    drawn = sorted(others, key=lambda index: order[index])[: n - len(best)]
    chosen = [Chosen(index, slopes[index], places[index]) for index in best]
    chosen += [Chosen(index, None, None) for index in drawn]
    return Choice(
        items=tuple(sorted(chosen, key=lambda item: item.index)),
        n_examinees=n_examinees,
        n_uninformative=y.shape[1] - len(informative),
        n_negative=len(slopes) - len(positive),
        fitted=fitted,
    )
