"""Whether a subtask is one: the conditions, one by one."""

from __future__ import annotations

from fractions import Fraction

import pytest

from llm_distill.methods.subtasks import numbers_from_elsewhere, numbers_of, subtask_problem

LIMITS = {"least_steps": 1, "most_share": 0.75}


def test_numbers_of_a_text() -> None:
    text = "Ann has three pens at $1,250.50 with 20% off, and 7/8 of a pie."
    assert numbers_of(text) == {
        Fraction(3), Fraction(2501, 2), Fraction(20), Fraction(1, 5), Fraction(7), Fraction(8)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("question", "rationale", "expected"),
    [
        ("Ann has 9 and loses 3.", "9 - 3 = 6. 6 + 3 = 9.", []),
        ("Ann finds 4.", "6 + 4 = 10. 10 + 5 = 15.", ["6", "5"]),
        ("How many minutes are 3 hours?", "3 * 60 = 180.", ["60"]),
        ("Ann eats 20% of 50.", "50 * 0.2 = 10.", []),
        ("Ann eats 20% of 50.", "50 * 20% = 10.", []),
        # What comes out counts as it is and as it is written.
        ("Three share 10.", "10 / 3 = 3.33. 3.33 * 3 = 10.", []),
        ("", "no equation", []),
    ],
)
def test_numbers_from_elsewhere(question: str, rationale: str, expected: list[str]) -> None:
    assert numbers_from_elsewhere(question, rationale) == expected


def test_what_everybody_knows() -> None:
    assert numbers_from_elsewhere("How many minutes are 3 hours?", "3 * 60 = 180.", [60]) == []


def test_without_calculations_of_the_whole_its_share_is_not_known() -> None:
    question, steps = "Ann has 9 and loses 3.", "9 - 3 = 6."
    assert subtask_problem(question, steps, steps, **LIMITS) == "nearly the whole task"  # type: ignore[arg-type]
    assert subtask_problem(question, steps, "By thought.", **LIMITS) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("question", "problem"),
    [
        ("It is 3 degrees above 9. How warm is it?", None),
        ("Ann came 3 hours earlier than at 9. When?", None),
        ("Add 3 to 9, the result from earlier.", "not self-contained"),
        ("Take the above 9 and add 3.", "not self-contained"),
        ("Add 3 to the earlier result, 9.", "not self-contained"),
        ("Ann has 9 after step 1 and finds 3.", "not self-contained"),
    ],
)
def test_what_points_elsewhere(question: str, problem: str | None) -> None:
    assert subtask_problem(question, "9 + 3 = 12.", "By thought.", **LIMITS) == problem  # type: ignore[arg-type]
