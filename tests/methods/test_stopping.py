"""When rounds stop: by hand, and by brute force over the paired bootstrap."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from llm_distill.methods.statistics import paired_bootstrap
from llm_distill.methods.stopping import is_spent, progressed


def _exam(n_right: int, n: int = 40) -> dict[str, float]:
    return {str(i): float(i < n_right) for i in range(n)}


def test_the_first_round_is_a_gain_and_the_best() -> None:
    found = progressed([_exam(0)])
    assert (found.means, found.best, found.gained, found.since) == ((0.0,), 1, 1, 0)


def test_a_clear_gain_resets_the_count_and_noise_does_not() -> None:
    found = progressed([_exam(10), _exam(30), _exam(31), _exam(29)])
    assert found.means == (0.25, 0.75, 0.775, 0.725)
    assert (found.best, found.gained, found.since) == (3, 2, 2)


def test_small_steps_in_one_direction_add_up() -> None:
    """Each is within the interval of the one before it; the fifth is beyond that of the first."""
    rounds = [_exam(n) for n in (10, 12, 13, 14, 15, 16)]
    pairs = pairwise(rounds)
    small = [paired_bootstrap([*a.values()], [*b.values()]).low for a, b in pairs]
    assert all(low <= 0 for low in small)
    assert progressed(rounds).gained == 4  # 14 of 40 is beyond 10, and 16 is not beyond 14


def test_of_equals_the_first_is_the_best() -> None:
    assert progressed([_exam(5), _exam(9), _exam(9)]).best == 2


def test_a_round_that_harms_is_no_gain() -> None:
    found = progressed([_exam(30), _exam(5), _exam(6)])
    assert (found.best, found.gained, found.since) == (1, 1, 2)


def test_the_order_of_items_does_not_matter() -> None:
    random = Random(3)
    rounds = [{str(i): random.random() for i in range(30)} for _ in range(4)]
    turned = [dict(random.sample([*each.items()], 30)) for each in rounds[1:]]
    first, second = progressed(rounds), progressed([rounds[0], *turned])
    assert (first.best, first.gained) == (second.best, second.gained)
    assert first.means == pytest.approx(second.means)


@pytest.mark.parametrize("rounds", [[], [{}], [_exam(3), _exam(3, 41)], [_exam(3), {"x": 1.0}]])
def test_other_items_are_refused(rounds: list[dict[str, float]]) -> None:
    with pytest.raises(ValueError, match="the same items"):
        progressed(rounds)


def test_a_budget_ends_before_it_is_passed() -> None:
    assert not is_spent([10, 10], 30)
    assert is_spent([10, 10], 29)
    assert is_spent([10, 25], 59)
    assert not is_spent([25, 10], 59)
