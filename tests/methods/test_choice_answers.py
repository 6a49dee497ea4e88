"""Which choice an answer names: however it is written, and never where it names two."""

from __future__ import annotations

import pytest

from llm_distill.methods.answers import judge
from llm_distill.methods.choice_answers import read_choice


@pytest.mark.parametrize(
    "text",
    [
        *("D", "d", "D.", "D)", "(D)", "[D]", "<D>", "{D}", "D:", "D,", "D。", '"D"', "“D”", "`D`"),
        *("**D**", "*D*", "_D_", "**(D)** Paris", "**D) Paris**", "**D**.", "$D$", "Ｄ", "（Ｄ）"),
        *(r"\boxed{D}", r"\boxed{\text{D}}", r"So it is $\boxed{\text{(D) } 5}$.", r"\mathrm{D}"),
        *(
            "Answer: D",
            "Answer: **D**",
            "**Answer:** D",
            "Final answer: (D).",
            "Ans: D",
            "Option D",
        ),
        *(
            "The correct answer is D.",
            "The answer is option (D) Paris",
            "So the best choice is D: x",
        ),
        *(
            "D: Paris",
            "D) A. Smith",
            "D - Paris",
            "D is correct",
            "D, because it is not A",
            "(D) A cat",
        ),
        *("D\n\nExplanation: A is wrong", "D) since B) is wrong"),
    ],
)
def test_one_choice_is_read(text: str) -> None:
    assert read_choice(text) == "D"


@pytest.mark.parametrize(
    "text",
    [
        *("A) and C)", "A) C)", "A and C", "A or C", "A, C", "A/C", "A & C", "A，C", "(A), (C)"),
        *("Both A and C", "A cat", "I think so", "Paris", "None of these", "", "  ", r"\boxed{}"),
    ],
)
def test_none_or_two_are_not_read(text: str) -> None:
    assert read_choice(text) is None


def test_numbered_choices_are_read() -> None:
    assert read_choice("(3)") == read_choice("Option 3") == "3"
    assert read_choice("34 apples") is None


@pytest.mark.parametrize(
    ("answer", "reference", "verdict"),
    [
        ("**B**", "(B)", True),
        ("C) x", "B", False),
        ("A) and B)", "B", None),
        ("Paris", "B", None),
        ("Paris", "paris", True),
        ("Rome", "Paris", False),
        ("B", "Paris", False),
    ],
)
def test_what_names_no_choice_is_unreadable_and_not_wrong(
    answer: str, reference: str, verdict: bool | None
) -> None:
    assert judge(answer, reference, "choice") is verdict
