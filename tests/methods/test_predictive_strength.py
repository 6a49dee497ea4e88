"""Predictive strength: as Kendall's τ, and what cannot matter to it."""

from __future__ import annotations

from math import exp
from random import Random

import pytest
from scipy.stats import kendalltau

from llm_distill.methods.predictive_strength import predictive_strength


def test_it_is_kendalls_tau() -> None:
    random = Random(0)
    for _ in range(20):
        losses, scores = ([random.random() for _ in range(6)] for _ in range(2))
        tau = kendalltau([-loss for loss in losses], scores).statistic
        assert predictive_strength(losses, scores) == pytest.approx((tau + 1) / 2)


def test_only_orders_matter_and_not_whose_comes_first() -> None:
    losses, scores = [3.0, 1.0, 2.0, 2.5], [40.0, 70.0, 50.0, 60.0]
    found = predictive_strength(losses, scores)
    assert found == pytest.approx(5 / 6)
    assert predictive_strength([exp(each) for each in losses], scores) == found
    assert predictive_strength(losses, [each / 100 for each in scores]) == found
    assert predictive_strength(losses[::-1], scores[::-1]) == found
    assert predictive_strength([-each for each in losses], scores) == pytest.approx(1 - found)


def test_ties() -> None:
    assert predictive_strength([1.0, 1.0, 2.0], [3.0, 2.0, 1.0]) == pytest.approx(2.5 / 3)
    assert predictive_strength([1.0, 5.0, 2.0], [3.0, 3.0, 1.0]) == 1 / 2  # 1 and 5 are no pair
    with pytest.raises(ValueError, match="different benchmark scores"):
        predictive_strength([1.0, 2.0], [3.0, 3.0])
