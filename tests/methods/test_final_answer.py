"""The final answer of texts as real small models write them."""

from __future__ import annotations

import pytest

from llm_distill.methods.answers import AnswerKind, extract_answer, judge
from llm_distill.methods.final_answer import final_answer, why_mostly_unreadable


@pytest.mark.parametrize(
    ("text", "answer", "form"),
    [
        ("3 + 4 = 7. <ans>7</ans> The answer is 9.", "7", "tag"),
        (r"So \boxed{3}, no, \(\boxed{12}\). The answer is 5.", "12", "boxed"),
        ("Each bag has 18 balls.\n#### 18\nThe answer is: 19", "18", "hashes"),
        ("#### Step 2: Subtract\nThe answer is 8.", "8", "sentence"),
        ("Sam has 4 + 8 = 12 spoons.\nThe answer is: 12", "12", "sentence"),
        ("So, the **final answer** is **24** socks. She is glad.", "24 socks", "sentence"),
        ("The answer is not clear at first.\nAnswer: Monday", "Monday", "sentence"),
        ("The answer is 5. The answer is correct. The result is right.", "5", "sentence"),
        ("Answer: 7\nQuestion: And 3 + 3?\nAnswer: 6", "7", "sentence"),
        ("**Answer:** Thursday", "Thursday", "sentence"),
        ("The answer is Mr. Brown. He is here.", "Mr. Brown", "sentence"),
        ("The answer is 3.5 kg.", "3.5 kg", "sentence"),
        ("The answer is:\n\\[\n5\n\\]", "5", "sentence"),
        ("Answer:\n- 5 apples", "5 apples", "sentence"),
        ("Answer: The total is 5 apples", "5", "sentence"),
        ("The answer is 5 (five), because 3 + 2 = 5.", "5", "sentence"),
        ("The answer is not 5 but 6.", "6", "sentence"),
        ("The answers are 2 and 3.", "2 and 3", "sentence"),
        ("I see that the correct option is (B).", "(B)", "sentence"),
        ("Thursday.", "Thursday", "whole"),
        ("She has 5 apples.", "5", "whole"),
        ("4 * 7 = 28, so she buys 28 socks.", "28", "number"),
        ("Answer:\n1. Add 3 and 4.\n2. It is 7.", "7", "number"),
        ("It costs $1,250.50 in all the days", "$1,250.50", "number"),
        ("It fell from 4 to -3 in the whole of the night.", "-3", "number"),
        ("The range is 3-5 of them in all the bags.", "5", "number"),
        ("So we eat 3 / 4 of the whole of it", "3 / 4", "number"),
        (r"So it is \frac{3}{4} of the whole of it", r"\frac{3}{4}", "number"),
        ("It rose by 25% in all of the year", "25%", "number"),
        ("They meet at 3:45 in all of the towns", "3:45", "number"),
    ],
)
def test_the_most_explicit_form_counts(text: str, answer: str, form: str) -> None:
    assert final_answer(text) == (answer, form)


@pytest.mark.parametrize("text", ["", "  \n", "Hugo bakes in some of the days to come.", "####"])
def test_no_answer(text: str) -> None:
    assert final_answer(text) is None


def test_a_text_that_was_cut_has_an_answer_only_where_it_says_so() -> None:
    assert final_answer("First, 4 * 7 = 28. Then we add the", ended=False) is None
    assert final_answer("Thursday", ended=False) is None
    assert final_answer("The answer is 2", ended=False) is None  # and perhaps 28
    said = final_answer("The answer is 28.\nLet us check that, 28 / 7 =", ended=False)
    assert said == ("28", "sentence")


@pytest.mark.parametrize(
    ("kind", "text", "reference", "right"),
    [
        ("math", "So, the **final answer** is **24** socks.", "24", True),
        ("math", "There are 18 balls, so the answer is 18 balls.", "18", True),
        ("exact", "The answer is Ann!", "ann", True),
        ("exact", "The answer is Ann.", "Mia", False),
        ("choice", "I think that the answer is (B).", "B", True),
        ("choice", "I have seen 3 of them in this town.", "C", None),
        ("math", "<think>The answer is 3.</think> It is 4 of them in the end.", "4", True),
    ],
)
def test_read_in_any_form(kind: AnswerKind, text: str, reference: str, right: bool | None) -> None:
    assert judge(extract_answer(text, kind, ended=True, place="any"), reference, kind) is right
    assert extract_answer(text, kind, ended=True) is None


def test_more_than_half_unreadable_is_said() -> None:
    assert why_mostly_unreadable(10, 20, False) is None
    assert why_mostly_unreadable(0, 0, False) is None
    assert "11 of 20 answers cannot be read" in str(why_mostly_unreadable(11, 20, False))
    assert "answer_in" not in str(why_mostly_unreadable(11, 20, True))
