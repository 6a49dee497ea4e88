"""Some bad rows are data; too many end the run, at once and with the first reason."""

from __future__ import annotations

import pytest

from llm_distill.errors import DataError
from llm_distill.methods.error_budget import ErrorBudget


def test_exactly_the_allowed_share_is_borne() -> None:
    budget = ErrorBudget(0.1, 20)
    for error in ["no text", "no text", None]:
        budget.count("a", error)
    assert budget.failed == 2
    with pytest.raises(DataError, match=r"3 of 20 failed.*0\.1.*first error: a: no text"):
        budget.count("b", "another")


def test_causes_are_counted_whatever_numbers_they_hold() -> None:
    budget = ErrorBudget(0.5, 8)
    for n in range(3):
        budget.count(f"a{n}", f"the prompt has {n} tokens")
    budget.count("b", "text is null")
    with pytest.raises(DataError) as raised:
        budget.count("c", "text is null")
    assert str(raised.value).endswith(
        "first error: a0: the prompt has 0 tokens; most often: 'the prompt has … tokens' 3, "
        "'text is null' 2"
    )


def test_none_is_borne_at_rate_0_and_all_at_rate_1() -> None:
    with pytest.raises(DataError):
        ErrorBudget(0.0, 100).count("a", "no text")
    budget = ErrorBudget(1.0, 3)
    for _ in range(3):
        budget.count("a", "no text")
