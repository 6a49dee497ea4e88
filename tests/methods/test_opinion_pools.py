"""Pools by hand; weights and temperatures against a grid and against what was planted."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from llm_distill.methods.opinion_pools import (
    HIGHEST,
    SMOOTHING,
    Pool,
    at_temperature,
    fitted_temperature,
    log_loss,
    pooled,
    smoothed,
    stacked_weights,
    surest,
)

POOLS: tuple[Pool, ...] = ("mean", "product")


def drawn(n: int, seed: int = 0, labels: int = 4) -> tuple[Any, list[int]]:
    """Distributions [n, labels], and right labels that are drawn from them: it is calibrated."""
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.full(labels, 0.5), size=n)
    return p, [int(random.choice(labels, p=each)) for each in p]


def test_pools_by_hand() -> None:
    p = np.array([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3]])
    assert pooled(p, [1, 1], "mean") == pytest.approx([0.5, 0.3, 0.2])
    assert pooled(p, [6, 2], "mean") == pytest.approx([0.65, 0.2, 0.15])
    a, b = (1 - SMOOTHING) * p + SMOOTHING / 3
    geometric = np.sqrt(a * b)
    assert pooled(p, [1, 1], "product") == pytest.approx(geometric / geometric.sum())
    raised = a**0.75 * b**0.25
    assert pooled(p, [3, 1], "product") == pytest.approx(raised / raised.sum())
    assert surest(p) == 0
    assert surest(np.array([[0.5, 0.5], [0.5, 0.5]])) == 0
    for pool in POOLS:
        assert pooled(p, [0, 1], pool) == pytest.approx(p[1], abs=SMOOTHING)
        with pytest.raises(ValueError, match="not all 0"):
            pooled(p, [0, 0], pool)


@pytest.mark.parametrize("pool", POOLS)
def test_the_order_of_teachers_rows_and_labels_does_not_matter(pool: Pool) -> None:
    p = np.stack([drawn(6, seed)[0] for seed in range(3)])
    weights = np.array([0.5, 0.2, 0.3])
    found = pooled(p, weights, pool)
    assert found.sum(-1) == pytest.approx(np.ones(6))
    assert pooled(p[::-1], weights[::-1], pool) == pytest.approx(found)
    assert pooled(p[:, :, ::-1], weights, pool)[:, ::-1] == pytest.approx(found)
    for row in range(6):
        assert pooled(p[:, row], weights, pool) == pytest.approx(found[row])


def test_no_zero_is_a_veto_in_a_product() -> None:
    p = np.array([[1.0, 0.0, 0.0], [0.0, 0.9, 0.1], [0.0, 0.9, 0.1]])
    assert pooled(p, [1, 1, 1], "product").argmax() == 1
    assert smoothed(p).min() > 0
    assert smoothed(p).sum(-1) == pytest.approx(np.ones(3))


def test_a_temperature_divides_logits() -> None:
    logits = np.array([[2.0, -1.0, 0.5], [700.0, 0.0, -700.0]])
    for temperature in (0.1, 1.0, 3.0):
        p = at_temperature(np.array([[0.7, 0.2, 0.1]]), temperature)[0]
        raised = np.array([0.7, 0.2, 0.1]) ** (1 / temperature)
        assert p == pytest.approx(raised / raised.sum())
    soft = np.exp(logits[0]) / np.exp(logits[0]).sum()
    halved = np.exp(logits[0] / 2) / np.exp(logits[0] / 2).sum()
    assert at_temperature(soft, 2.0) == pytest.approx(halved)
    assert at_temperature(at_temperature(soft, 0.1), 10.0) == pytest.approx(soft)
    assert at_temperature(np.array([1.0, 0.0]), 5.0) == pytest.approx([1.0, 0.0])


@pytest.mark.parametrize("planted", [0.1, 0.5, 1.0, 3.0])
def test_a_planted_temperature_is_found(planted: float) -> None:
    p, right = drawn(2000)
    told = at_temperature(p, planted)
    found = fitted_temperature(told, right)
    assert found == pytest.approx(1 / planted, rel=0.15)
    # Of a fine grid none is better.
    best = log_loss(at_temperature(told, found), right)
    for temperature in np.geomspace(0.05, HIGHEST, 100):
        assert log_loss(at_temperature(told, temperature), right) > best - 1e-6


def test_labels_alone_have_no_temperature() -> None:
    assert fitted_temperature(np.eye(3)[[0, 1, 2, 0]], [0, 1, 1, 0]) == 1.0


@pytest.mark.parametrize("pool", POOLS)
def test_weights_against_a_grid(pool: Pool) -> None:
    base, right = drawn(300)
    random = np.random.default_rng(1)
    p = np.stack([
        0.7 * base + 0.3 * random.dirichlet(np.ones(4), 300),
        at_temperature(0.4 * base + 0.6 * random.dirichlet(np.ones(4), 300), 0.5),
        random.dirichlet(np.ones(4), 300),
    ])  # fmt: skip
    found = stacked_weights(p, right, pool)
    assert sum(found) == pytest.approx(1)
    assert min(found) >= 0
    best = log_loss(pooled(p, found, pool), right)
    for i, j in product(range(21), repeat=2):
        if i + j <= 20:
            tried = [i / 20, j / 20, 1 - (i + j) / 20]
            assert log_loss(pooled(p, tried, pool), right) > best - 2e-4
    assert found[0] > 0.5  # the good one
    assert found[2] < 0.1  # who knows nothing


@pytest.mark.parametrize("pool", POOLS)
def test_copies_of_a_teacher_share_its_weight(pool: Pool) -> None:
    base, right = drawn(400)
    random = np.random.default_rng(2)
    a, b = (0.6 * base + 0.4 * random.dirichlet(np.ones(4), 400) for _ in range(2))
    alone = stacked_weights(np.stack([a, b]), right, pool)
    copied = stacked_weights(np.stack([a, a, a, b]), right, pool)
    assert sum(copied[:3]) == pytest.approx(alone[0], abs=1e-3)
    assert copied[:3] == pytest.approx([alone[0] / 3] * 3, abs=1e-3)
    assert stacked_weights(np.stack([b, a]), right, pool)[::-1] == pytest.approx(alone, abs=1e-3)
    with pytest.raises(ValueError, match="at least one row"):
        stacked_weights(np.zeros((2, 0, 4)), [], pool)
