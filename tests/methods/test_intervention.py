"""intervention: against brute force over all orders, and where all choices must coincide."""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import permutations
from math import inf, log
from statistics import fmean

import pytest

from llm_distill.methods.intervention import (
    BUDGETS,
    expected_right,
    explained_shares,
    n_explained,
    oracle_scores,
    probability,
)


def test_probability_of_an_answer_and_of_a_choice() -> None:
    assert probability(log(0.25)) == pytest.approx(0.25)
    assert probability(-inf) == 0
    assert probability(1e-7) == 1
    logps = [log(0.2), log(0.1), log(0.5)]
    assert probability(logps[0], logps) == pytest.approx(0.25)
    shifted = [each - 2000 for each in logps]  # whose p are all 0 as numbers
    assert probability(shifted[0], shifted) == pytest.approx(0.25)
    assert probability(-inf, [-inf, 0.0]) == 0
    assert probability(-inf, [-inf] * 4) == 0.25
    assert sum(probability(each, logps) for each in logps) == pytest.approx(1)


def test_a_budget_is_a_whole_number_of_items() -> None:
    for n in (1, 7, 15, 100, 997):
        for hundredths in range(101):
            exact = Fraction(hundredths, 100) * n
            assert n_explained(hundredths / 100, n) == exact.numerator // exact.denominator


@pytest.mark.parametrize("seed", range(20))
def test_shares_are_the_mean_over_all_orders_of_ties(seed: int) -> None:
    draw = random.Random(seed)
    scores = [draw.choice([None, 0.1, 0.5, -2.0]) for _ in range(6)]
    n = draw.randrange(7)

    def key(place: int) -> float:
        score = scores[place]
        return inf if score is None else -score

    chosen = [0] * 6
    orders = list(permutations(range(6)))
    for order in orders:
        for place in sorted(order, key=key)[:n]:
            chosen[place] += 1
    wanted = [count / len(orders) for count in chosen]
    assert explained_shares(scores, n) == pytest.approx(wanted)
    assert sum(explained_shares(scores, n)) == pytest.approx(n)


def test_the_order_of_items_does_not_matter() -> None:
    scores = [0.3, None, 0.3, 0.9, -1.0]
    for order in permutations(range(5)):
        turned = explained_shares([scores[place] for place in order], 2)
        assert turned == [explained_shares(scores, 2)[place] for place in order]


def test_at_no_and_at_full_budget_all_choices_are_the_same() -> None:
    draw = random.Random(1)
    without = [draw.random() < 0.5 for _ in range(31)]
    helped = [draw.random() < 0.5 for _ in range(31)]
    choices = [
        [draw.random() for _ in without],
        [0.0 for _ in without],
        oracle_scores(without, helped),
        [-each for each in oracle_scores(without, helped)],
    ]
    for scores in choices:
        for n, outcome in ((0, without), (31, helped)):
            assert expected_right(explained_shares(scores, n), without, helped) == outcome


def test_no_choice_is_better_than_the_oracle_and_random_is_on_the_line() -> None:
    without, helped = [True, True, False, False, False], [True, False, True, False, True]
    for budget in BUDGETS:
        n = n_explained(budget, 5)
        found = {
            fmean(expected_right(explained_shares(order, n), without, helped))
            for order in permutations([5.0, 4.0, 3.0, 2.0, 1.0])
        }
        best = fmean(
            expected_right(explained_shares(oracle_scores(without, helped), n), without, helped)
        )
        assert best == pytest.approx(max(found))
        line = fmean(expected_right(explained_shares([0.0] * 5, n), without, helped))
        assert line == pytest.approx(0.4 + 0.2 * budget)
    scores = oracle_scores(without, helped)
    assert scores == [0, -1, 1, 0.5, 1]
