"""When an answer counts as right; every kind accepts its own reference, and nothing raises."""

from __future__ import annotations

import threading
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_distill.methods.answers import AnswerKind, answers_equal, extract_answer

KINDS: list[AnswerKind] = [kind for kind in get_args(AnswerKind) if kind != "tool_call"]


def test_the_first_answer_counts() -> None:
    assert extract_answer("<ans> 7 </ans> Question: … <ans>8</ans>") == "7"
    assert extract_answer("<ans> </ans>") is None
    assert extract_answer("7") is None


@pytest.mark.parametrize(
    ("kind", "answer", "reference", "equal"),
    [
        ("exact", " New  York. ", "new york", True),
        ("exact", "7", "7.0", False),
        ("exact", "7", "17", False),
        ("exact", ".", ".", True),
        ("exact", ".", ",", False),
        ("exact", "", "", False),
        ("exact", None, "7", False),
        ("choice", "B", "(B)", True),
        ("choice", "b) Paris", "(B)", True),
        ("choice", "**B**", "B", True),
        ("choice", "A) and C)", "A", False),
        ("choice", "(B) Paris", "B.", True),
        ("choice", "B: x", "(C)", False),
        ("choice", "Bananas", "(B)", False),
        ("choice", "", "(B)", False),
        ("choice", "paris", "Paris", True),
        ("math", "1,000", "1000", True),
        ("math", "$7.0$", "7", True),
        ("math", "-7", "7", False),
        ("math", "1/2", "0.5", True),
        ("math", "\\frac{2}{4}", "\\frac{1}{2}", True),
        ("math", "\\boxed{3}", "3", True),
        ("math", "0.5", "So it is. " * 50 + r"$\boxed{1}$, no: $x = \boxed{\frac{1}{2}}$.", True),
        ("math", "1", r"$\boxed{1}$, no: $x = \boxed{\frac{1}{2}}$.", False),
        ("math", r"\boxed{", "1", False),
        ("math", r"\boxed{ }", "1", False),
        ("math", "$x^2 + 2x + 1$", "$(x+1)^2$", True),
        ("math", "0.33", "1/3", False),
        ("math", "x", "y", False),
        ("math", None, "7", False),
    ],
)
def test_answers(kind: AnswerKind, answer: str | None, reference: str, equal: bool) -> None:
    assert answers_equal(answer, reference, kind) is equal


@settings(max_examples=50, deadline=None)
@given(st.text(min_size=1).filter(str.strip), st.sampled_from(KINDS))
def test_every_kind_accepts_its_own_reference(text: str, kind: AnswerKind) -> None:
    assert answers_equal(text, text, kind)


@settings(max_examples=40, deadline=None)
@given(st.text(alphabet="12x+-*/^(){}$\\fracsqt !,.", max_size=20))
def test_no_answer_raises(text: str) -> None:
    assert answers_equal(text, "12", "math") in (True, False)


@given(st.integers(), st.integers())
def test_whole_numbers_compare_as_numbers(a: int, b: int) -> None:
    assert answers_equal(f"{a:,}", str(b), "math") is (a == b)
    assert answers_equal(f"{a}.00", f"${a:,}$", "math")


ENDLESS = [
    "9^{9^{9}}",
    "9**9**9",
    "9^{(9^9)}",
    "(10^9)!",
    "99999999!",
    "2^{123456789}",
    "1.5e99999999",
    "\\sum_{i=1}^{10000000} i^i",
    "\\binom{100000000}{50000000}",
]


@pytest.mark.parametrize("text", ENDLESS)
def test_what_would_take_for_ever_is_compared_as_text(text: str) -> None:
    done: list[bool] = []

    def compare() -> None:
        done.append(answers_equal(text, "5", "math"))
        done.append(answers_equal(text, f"{text}.", "math"))

    worker = threading.Thread(target=compare, daemon=True)  # where no signal can end it
    worker.start()
    worker.join(5)
    assert done == [False, True]


def test_math_works_outside_the_main_thread() -> None:
    found: list[bool] = []
    worker = threading.Thread(
        target=lambda: found.append(answers_equal("\\frac{1}{2}", "0.5", "math"))
    )
    worker.start()
    worker.join()
    assert found == [True]
