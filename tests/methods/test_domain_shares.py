"""DDK's shares: the numbers of its formula, and what it does at the ends."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_distill.methods.domain_shares import first_shares, next_shares

DOMAINS = "abcd"


def of(*values: float) -> dict[str, float]:
    return dict(zip(DOMAINS, values, strict=True))


def test_two_intervals_by_hand() -> None:
    first = first_shares(of(1, 1.2, 2, 1))
    assert first == pytest.approx(of(0.1684, 0.2056, 0.4576, 0.1684), abs=5e-5)
    second = next_shares(of(1, 1.1, 1.5, 1), first, 0.5)
    assert second == pytest.approx(of(0.1888, 0.2112, 0.4111, 0.1888), abs=6e-5)


def test_the_same_ratios_again_and_again() -> None:
    shares = first_shares(of(1, 1.2, 2, 1))
    for _ in range(200):
        shares = next_shares(of(1, 1.1, 1.5, 1), shares)
    assert shares == pytest.approx(of(0.2074, 0.2228, 0.3624, 0.2074), abs=5e-5)


def test_equal_ratios_give_equal_shares() -> None:
    assert first_shares(of(3, 3, 3, 3)) == pytest.approx(of(0.25, 0.25, 0.25, 0.25))
    shares = of(0.7, 0.1, 0.1, 0.1)
    for _ in range(60):
        shares = next_shares(of(3, 3, 3, 3), shares)
    assert shares == pytest.approx(of(0.25, 0.25, 0.25, 0.25))


@given(
    st.lists(st.floats(0, 50), min_size=4, max_size=4),
    st.lists(st.floats(0.01, 1), min_size=4, max_size=4),
    st.floats(0, 1),
)
def test_it_is_the_formula(lags: list[float], weights: list[float], smoothing: float) -> None:
    before = [weight / sum(weights) for weight in weights]
    psi = [share * math.exp(lag) for share, lag in zip(before, lags, strict=True)]
    wanted = [smoothing * value / sum(psi) + (1 - smoothing) / 4 for value in psi]
    found = next_shares(of(*lags), of(*before), smoothing)
    assert found == pytest.approx(of(*wanted))
    assert sum(found.values()) == pytest.approx(1)
    assert min(found.values()) >= (1 - smoothing) / 4 - 1e-12


def test_the_first_interval_is_not_smoothed() -> None:
    """One domain of ρ = 10 beside seven of 1 takes nearly all of it, and half of the next."""
    lags = {"far": 10.0, **{f"near {n}": 1.0 for n in range(7)}}
    first = first_shares(lags)
    assert first["far"] == pytest.approx(0.999, abs=5e-4)
    assert next_shares(lags, first)["far"] == pytest.approx(0.5 + 0.5 / 8, abs=5e-4)


def test_ratios_that_overflow() -> None:
    found = next_shares(of(1e4, 1, 1, 1), of(0.25, 0.25, 0.25, 0.25))
    assert found == pytest.approx(of(0.625, 0.125, 0.125, 0.125))
    assert first_shares(of(1e300, 1, 1, 1))["a"] == 1


def test_a_domain_of_no_share_comes_back() -> None:
    assert next_shares(of(2, 1, 1, 1), of(0, 0.5, 0.5, 0))["a"] == pytest.approx(0.125)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="not a finite number: {'b': inf}"):
        first_shares({"a": 1.0, "b": math.inf})
    with pytest.raises(ValueError, match="there are no domains"):
        first_shares({})
    with pytest.raises(ValueError, match="not those of the shares before: b, c"):
        next_shares({"a": 1.0, "b": 1.0}, {"a": 0.5, "c": 0.5})
    with pytest.raises(ValueError, match="shares are 0 to 1"):
        next_shares({"a": 1.0}, {"a": 0.0})
    with pytest.raises(ValueError, match="shares are 0 to 1"):
        next_shares({"a": 1.0, "b": 1.0}, {"a": math.nan, "b": 0.5})
