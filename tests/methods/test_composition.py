"""What a choice prefers: against every possible choice, and where there is nothing to find."""

from __future__ import annotations

from itertools import combinations
from random import Random

import pytest

from llm_distill.methods.composition import hypergeometric_tail, preferences

VALUES = {"a": ["x"], "b": ["x", "y"], "c": ["y"], "d": [], "e": ["x"], "f": ["z"]}


@pytest.mark.parametrize("n", [1, 3, 5, 6])
def test_the_p_value_is_the_share_of_all_choices_that_are_as_extreme(n: int) -> None:
    choices = list(combinations(VALUES, n))
    for chosen in choices:
        for found in preferences(VALUES, chosen):
            often = [sum(found.value in VALUES[i] for i in c) for c in choices]
            extreme = sum(times >= found.n_chosen for times in often)
            assert found.p_value == pytest.approx(extreme / len(choices))
            assert found.n_chosen == sum(found.value in VALUES[i] for i in chosen)
            assert found.precision == pytest.approx(found.n_chosen / n)
            assert found.recall == pytest.approx(found.n_chosen / found.n_pool)


def test_the_tail_is_scipys() -> None:
    from scipy.stats import hypergeom

    rng = Random(0)
    for _ in range(200):
        total = rng.randint(1, 60)
        marked, drawn = rng.randint(0, total), rng.randint(0, total)
        at_least = rng.randint(-1, drawn + 1)
        expected = hypergeom.sf(at_least - 1, total, marked, drawn)
        assert hypergeometric_tail(at_least, drawn, marked, total) == pytest.approx(expected)


def test_planted_values_are_found_and_the_order_of_the_chosen_does_not_matter() -> None:
    pool = {f"r{i}": ["gap" if i % 8 == 0 else f"known {i % 7}"] for i in range(160)}
    chosen = [*[i for i, own in pool.items() if own == ["gap"]][:10], "r1", "r2"]
    found = preferences(pool, chosen)
    gap = next(each for each in found if each.value == "gap")
    assert (gap.n_pool, gap.n_chosen, gap.recall) == (20, 10, 0.5)
    assert gap.precision == pytest.approx(10 / 12)
    assert gap.low < gap.precision < gap.high
    assert [each.value for each in found if each.is_preferred] == ["gap"]
    assert preferences(pool, [*reversed(chosen), chosen[0]]) == found


def test_random_choices_have_nothing_to_find() -> None:
    """At 5 % for all values together; an exact test of few rows errs less often, never more."""
    pool = {f"r{i}": [f"skill {i % 8}"] for i in range(160)}
    rng = Random(1)
    n_false = sum(
        any(each.is_preferred for each in preferences(pool, rng.sample(sorted(pool), 12)))
        for _ in range(1000)
    )
    assert n_false <= 60  # 50 expected at most, with a standard deviation of 7


@pytest.mark.parametrize("chosen", [[], ["g"], ["a", "g"]])
def test_what_is_not_of_the_pool_is_refused(chosen: list[str]) -> None:
    with pytest.raises(ValueError, match="not in the pool"):
        preferences(VALUES, chosen)


def test_more_than_there_is_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="of 4 rows"):
        hypergeometric_tail(1, 5, 2, 4)
