"""2PL against planted parameters, the information there is, and what must never be selected."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import spearmanr

from llm_distill.methods.item_response import (
    INTERCEPT_PRIOR,
    SLOPE_PRIOR,
    choose_items,
    fit_2pl,
)

SEEDS = range(3)


def planted(n_examinees: int, n_items: int, spread: float, seed: int):  # type: ignore[no-untyped-def]
    """Responses, slopes and abilities: slopes lognormal, difficulties and abilities N(0, 1)."""
    random = np.random.default_rng(seed)
    slopes = np.exp(spread * random.standard_normal(n_items))
    places = random.standard_normal(n_items)
    abilities = random.standard_normal(n_examinees)
    p = 1 / (1 + np.exp(-slopes * (abilities[:, None] - places)))
    responses = (random.random((n_examinees, n_items)) < p).astype(float)
    informative = (responses.mean(axis=0) > 0) & (responses.mean(axis=0) < 1)
    return responses[:, informative], slopes[informative], abilities


def slopes_with_known_abilities(responses, abilities):  # type: ignore[no-untyped-def]
    """The same posterior mode with the abilities given: what no fit can be expected to beat."""
    found = []
    for answers in responses.T:

        def loss(x, answers=answers):  # type: ignore[no-untyped-def]
            z = x[0] * abilities + x[1]
            prior = ((x[0] - SLOPE_PRIOR[0]) / SLOPE_PRIOR[1]) ** 2
            prior += ((x[1] - INTERCEPT_PRIOR[0]) / INTERCEPT_PRIOR[1]) ** 2
            return np.logaddexp(0, z).sum() - answers @ z + prior / 2

        found.append(minimize(loss, [1.0, 0.0]).x[0])
    return np.array(found)


def test_planted_discriminations_are_recovered_by_200_takers_of_30_items() -> None:
    correlations = [
        spearmanr(fit_2pl(responses).discrimination, slopes)[0]
        for responses, slopes, _ in (planted(200, 30, 0.8, seed) for seed in range(20))
    ]
    assert np.mean(correlations) >= 0.9, correlations


def test_30_takers_of_200_items_give_what_known_abilities_would_give() -> None:
    """30 answers an item do not determine a slope: no method ranks them at 0.9, and this one
    ranks them as well as one that is told the abilities.
    """
    fitted, known = [], []
    for seed in SEEDS:
        responses, slopes, abilities = planted(30, 200, 0.7, seed)
        fitted.append(spearmanr(fit_2pl(responses).discrimination, slopes)[0])
        known.append(spearmanr(slopes_with_known_abilities(responses, abilities), slopes)[0])
    assert np.mean(known) < 0.85
    assert np.mean(fitted) > np.mean(known) - 0.02
    assert np.mean(fitted) > 0.7


def test_abilities_and_difficulties_are_recovered_too() -> None:
    random = np.random.default_rng(0)
    places, abilities = random.standard_normal(40), random.standard_normal(400)
    p = 1 / (1 + np.exp(-1.5 * (abilities[:, None] - places)))
    found = fit_2pl((random.random(p.shape) < p).astype(float))
    assert np.corrcoef(found.ability, abilities)[0, 1] > 0.9
    assert np.corrcoef(found.difficulty, places)[0, 1] > 0.97
    assert abs(found.discrimination.mean() - 1.5) < 0.15


def test_it_is_a_maximum_of_the_marginal_posterior() -> None:
    responses, _, _ = planted(25, 6, 0.5, 3)
    grid = np.linspace(-4, 4, 41)
    log_weights = -0.5 * grid**2 - np.logaddexp.reduce(-0.5 * grid**2)

    def posterior(slope, intercept) -> float:  # type: ignore[no-untyped-def]
        z = grid[:, None] * slope + intercept
        lines = responses @ z.T - np.logaddexp(0, z).sum(axis=1) + log_weights
        prior = (((slope - SLOPE_PRIOR[0]) / SLOPE_PRIOR[1]) ** 2).sum()
        prior += (((intercept - INTERCEPT_PRIOR[0]) / INTERCEPT_PRIOR[1]) ** 2).sum()
        return float(np.logaddexp.reduce(lines, axis=1).sum() - prior / 2)

    found = fit_2pl(responses, tolerance=1e-8)
    slope, intercept = found.discrimination, -found.difficulty * found.discrimination
    best = posterior(slope, intercept)
    for index in range(len(slope)):
        for change in (-0.05, 0.05):
            step = change * np.eye(len(slope))[index]
            assert posterior(slope + step, intercept) < best
            assert posterior(slope, intercept + step) < best


def test_an_item_that_better_takers_miss_has_a_negative_slope() -> None:
    responses, _, abilities = planted(100, 30, 0.3, 1)
    responses[:, 4] = abilities < 0
    assert fit_2pl(responses).discrimination[4] < 0


def test_it_is_fast() -> None:
    responses, _, _ = planted(30, 200, 0.7, 0)
    started = time.process_time()
    fit_2pl(responses)
    assert time.process_time() - started < 2


@pytest.mark.parametrize("bad", [[[0.5, 1]], [], [[]], [0, 1], [[float("nan")]]])
def test_what_is_no_matrix_of_zeros_and_ones_is_refused(bad: list[object]) -> None:
    with pytest.raises(ValueError, match="matrix of 0 and 1"):
        fit_2pl(bad)  # type: ignore[arg-type]


def test_the_most_discriminating_items_are_chosen_and_negative_ones_never() -> None:
    responses, _, abilities = planted(200, 20, 0.2, 2)
    responses[:, 3] = abilities > 0
    responses[:, 11] = abilities > 0.5
    responses[:, 7] = abilities < 0  # negative
    responses[:, 0], responses[:, 1] = 1, 0  # all right, all wrong
    chosen = choose_items(responses, 2, range(20))
    assert [item.index for item in chosen.items] == [3, 11]
    assert (chosen.n_uninformative, chosen.n_negative) == (2, 1)
    every = choose_items(responses, 20, range(20))
    assert {item.index for item in every.items} == set(range(20)) - {7}
    assert {item.index for item in every.items if item.discrimination is None} == {0, 1}
    eighteen = choose_items(responses, 18, range(20))
    assert eighteen.items[0].discrimination is None  # 17 fit, 1 is drawn
    seventeen = choose_items(responses, 17, range(20))
    assert all(item.discrimination is not None for item in seventeen.items)


@pytest.mark.parametrize("takers", [[], [[1, 0, 1, 0]], [[1, 0, 1, 0], [0, 0, 1, 1]] * 3])
def test_fewer_than_3_different_takers_give_a_random_choice(takers: list[list[int]]) -> None:
    responses = np.array(takers, dtype=float).reshape(-1, 4)
    chosen = choose_items(responses, 2, [30, 10, 20, 40])
    assert [item.index for item in chosen.items] == [1, 2]
    assert not chosen.fitted
    assert all(item.discrimination is None for item in chosen.items)


def test_equal_items_are_told_apart_by_the_order_that_is_given_not_by_the_files() -> None:
    alike = np.repeat([[1], [1], [0], [1]], 20, axis=1)
    responses = np.hstack([alike, [[0], [1], [0], [0]]]).astype(float)
    first = choose_items(responses, 6, range(21))
    last = choose_items(responses, 6, range(21, 0, -1))
    assert first.fitted
    assert [item.index for item in first.items if item.index < 20][:5] == [0, 1, 2, 3, 4]
    assert [item.index for item in last.items if item.index < 20][-5:] == [15, 16, 17, 18, 19]
