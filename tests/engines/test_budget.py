"""Spent and set aside together stay below the limit."""

from __future__ import annotations

import pytest

from llm_distill.engines.budget import Budget
from llm_distill.errors import BudgetError


def test_the_worst_cases_must_fit_together() -> None:
    budget = Budget(10)
    budget.reserve(6)
    with pytest.raises(BudgetError, match=r"0 of 10 is spent, and the next request could cost 5"):
        budget.reserve(5)
    budget.reserve(4)  # to the limit, and the refused one set nothing aside
    budget.settle(6, 1)
    budget.reserve(5)
    budget.settle(4, 4)
    budget.settle(5, 0)
    assert budget.spent == 5


def test_without_a_limit_it_only_counts() -> None:
    budget = Budget(None)
    budget.reserve(1e9)
    budget.settle(1e9, 3)
    assert budget.spent == 3
