"""One distribution over labels from several teachers': pools, weights, temperatures. Pure.

Linear and logarithmic pools: Genest and Zidek 1986, "Combining probability distributions". Weights
chosen on held-out rows: stacking (Wolpert 1992; Breiman 1996). Temperatures: Guo et al. 2017, "On
calibration of modern neural networks". All arrays are of float64; labels are in one order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

Pool = Literal["mean", "product"]

SMOOTHING = 1e-3
"""The share of a distribution that is spread evenly before its logarithm is taken.

A label that a teacher never answered, or that is rounded to 0, is not impossible; without it one
such 0 would be a veto.
"""
LOWEST, HIGHEST = 0.05, 20.0
"""Of a temperature that is fitted."""
TRIED = 60
"""Temperatures of a grid, before the best of them is refined: the loss may have two valleys."""


def smoothed(p: Any) -> Any:
    """[..., labels]: with `SMOOTHING` spread evenly, so that no label has 0."""
    return (1 - SMOOTHING) * p + SMOOTHING / p.shape[-1]


def at_temperature(p: Any, temperature: float) -> Any:
    """p^(1/T), made to add up to 1: softmax(z / T) of the logits z that p is a softmax of.

    Args:
        p: [..., labels]. A label with 0 keeps 0.
        temperature: Above 0. Below 1 it makes surer, above 1 less sure; the order stays.
    """
    powered = (p / p.max(-1, keepdims=True)) ** (1 / temperature)
    return powered / powered.sum(-1, keepdims=True)


def pooled(p: Any, weights: Any, pool: Pool) -> Any:
    """Several distributions as one.

    mean: Σ w·p (linear pool). product: Π p^w, made to add up to 1 (logarithmic pool), of smoothed
    p; with equal weights the geometric mean.

    Args:
        p: [teachers, ..., labels].
        weights: [teachers], not negative, not all 0; only their ratios matter.

    Returns:
        [..., labels].

    Raises:
        ValueError: the weights are such that nothing is left.
    """
    import numpy as np

    shares = np.asarray(weights, dtype=float)
    if (shares < 0).any() or not shares.sum() > 0:
        raise ValueError(f"weights are 0 or more, and not all 0; these are {shares.tolist()}")
    shares = shares / shares.sum()
    if pool == "mean":
        return np.tensordot(shares, p, 1)
    logs = np.tensordot(shares, np.log(smoothed(np.asarray(p))), 1)
    powered = np.exp(logs - logs.max(-1, keepdims=True))
    return powered / powered.sum(-1, keepdims=True)


def surest(p: Any) -> int:
    """Which of [teachers, labels] has the highest probability of a label; of equals the first."""
    return int(p.max(-1).argmax())


def log_loss(p: Any, right: Sequence[int]) -> float:
    """The mean of −log p(right label) in nats, of smoothed p.

    Args:
        p: [rows, labels].
        right: Of each row the place of its right label.
    """
    import numpy as np

    return float(-np.log(smoothed(p)[np.arange(len(right)), right]).mean())


def fitted_temperature(p: Any, right: Sequence[int]) -> float:
    """The temperature with the lowest `log_loss`, between `LOWEST` and `HIGHEST`.

    1 where it makes no difference, as for labels without probabilities.

    Args:
        p: [rows, labels].
        right: Of each row the place of its right label.
    """
    import numpy as np
    from scipy.optimize import minimize_scalar

    def loss(log_t: float) -> float:
        return log_loss(at_temperature(p, float(np.exp(log_t))), right)

    grid = np.linspace(np.log(LOWEST), np.log(HIGHEST), TRIED)
    losses = [loss(log_t) for log_t in grid]
    if max(losses) - min(losses) < 1e-9:
        return 1.0
    best = int(np.argmin(losses))
    ends = grid[max(best - 1, 0)], grid[min(best + 1, TRIED - 1)]
    found = minimize_scalar(loss, bounds=ends, method="bounded")
    return float(np.exp(found.x if found.fun < losses[best] else grid[best]))


def stacked_weights(p: Any, right: Sequence[int], pool: Pool) -> list[float]:
    """The weights, 0 or more with the sum 1, with which the pool has the lowest `log_loss`.

    The loss is convex in them for both pools. Two teachers that say the same share their weight in
    any way; it is shared evenly here, since the search begins there.

    Args:
        p: [teachers, rows, labels].
        right: Of each row the place of its right label.

    Raises:
        ValueError: there are no rows.
    """
    import numpy as np
    from scipy.optimize import minimize

    n_teachers, n_rows, _ = p.shape
    if not n_rows:
        raise ValueError("weights are chosen on at least one row")
    p = smoothed(p)
    of_right = p[:, np.arange(n_rows), right]  # [teachers, rows]
    logs = np.log(p)

    def linear(w: Any) -> tuple[float, Any]:
        mixed = np.maximum(w @ of_right, 1e-300)  # a step of the search may leave the simplex
        return float(-np.log(mixed).mean()), -(of_right / mixed).mean(1)

    def logarithmic(w: Any) -> tuple[float, Any]:
        raised = np.tensordot(w, logs, 1)  # [rows, labels]
        highest = raised.max(-1, keepdims=True)
        sums = np.exp(raised - highest).sum(-1, keepdims=True)
        q = np.exp(raised - highest) / sums
        loss = (np.log(sums) + highest)[:, 0] - w @ np.log(of_right)
        return float(loss.mean()), ((q * logs).sum(-1) - np.log(of_right)).mean(1)

    found = minimize(
        linear if pool == "mean" else logarithmic,
        np.full(n_teachers, 1 / n_teachers),
        jac=True,
        bounds=[(0, 1)] * n_teachers,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 1000},
    )
    weights = np.clip(found.x, 0, None)
    return [float(w) for w in weights / weights.sum()]
