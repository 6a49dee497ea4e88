"""Exams of free answers are told from bad results of other exams."""

from __future__ import annotations

import pytest

from llm_distill.evaluation.free_answers import FreeAnswers, is_free
from llm_distill.evaluation.result_rows import ExamRow
from llm_distill.methods.answers import AnswerKind

FREE = ["Within 30 days, with the receipt.", "We open at nine in the morning.", "Yes, at the desk"]
NUMBERS = ["12", "3 hours", "$4.50"]
NAMES = ["Monday", "green", "Paris"]
LONG = "I think that it is green or so"


def note(
    references: list[str],
    answers: list[str | None],
    accuracy: float = 0.0,
    kind: AnswerKind = "exact",
    measured: bool = False,
) -> str | None:
    free = FreeAnswers(kind)
    for index, (reference, answer) in enumerate(zip(references, answers, strict=True)):
        free.add({"parent_id": f"t{index}", "reference_answer": reference, "answer": answer})
    return free.note([ExamRow(model="m", accuracy=accuracy)], measured)


def test_free_references_are_said_with_what_to_set() -> None:
    said = note(FREE, [None, LONG, "7"])
    assert said is not None
    assert "accuracy of 0.0% says little: the references are free text" in said
    assert "set answer_kind: text and measures: [token_f1, rouge_l], or have a model grade" in said
    as_text = note(FREE, [LONG] * 3, kind="text")
    assert as_text is not None
    assert "answer_kind: text" not in as_text
    assert "go by the other figures" in (note(FREE, [LONG] * 3, kind="text", measured=True) or "")


def test_sentences_where_a_name_is_wanted_are_said() -> None:
    assert "the answers are whole sentences" in (note(NAMES, [LONG] * 3) or "")


@pytest.mark.parametrize(
    ("references", "answers", "accuracy", "kind"),
    [
        (NUMBERS, [LONG] * 3, 0.0, "exact"),  # a bad student of a numeric exam
        (NUMBERS, [None] * 3, 0.0, "math"),
        (NAMES, ["red"] * 3, 0.0, "exact"),
        (NAMES, [None] * 3, 0.0, "exact"),
        (["A) in the old town hall"] * 3, [LONG] * 3, 0.0, "choice"),
        (["x", "y", "z"], [LONG] * 3, 0.0, "exact"),
        ([r"\frac{\sqrt{3}}{\pi \cdot \theta}"] * 3, [None] * 3, 0.0, "math"),
        (FREE, FREE, 0.3, "exact"),  # it can be answered in these words
    ],
)
def test_other_exams_are_what_they_say(
    references: list[str], answers: list[str | None], accuracy: float, kind: AnswerKind
) -> None:
    assert note(references, answers, accuracy, kind) is None


def test_words_of_other_scripts_count() -> None:
    assert is_free("三十天之内可以退货")
    assert not is_free("東京")
