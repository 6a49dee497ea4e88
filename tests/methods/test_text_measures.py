"""Text measures against the definitions, and against what the libraries give of their own."""

from __future__ import annotations

import pytest
from rouge_score.rouge_scorer import RougeScorer

from llm_distill.methods.answers import extract_answer, judge
from llm_distill.methods.text_measures import (
    equal_texts,
    measured_text,
    missing_packages,
    squad_words,
    token_f1,
)

ALL = ("token_f1", "rouge_1", "rouge_2", "rouge_l", "chrf")


def test_token_f1_counts_shared_words_as_often_as_both_have_them() -> None:
    assert token_f1("The cat sat.", "a cat sat down") == pytest.approx(0.8)  # 2 · 2 / (2 + 3)
    assert token_f1("no no no", "no") == pytest.approx(0.5)  # 2 · 1 / (3 + 1)
    assert token_f1("the", "an") == 1.0  # as in SQuAD's script: nothing is left of both
    assert token_f1("the", "cat") == 0.0


@pytest.mark.parametrize(
    ("answer", "reference", "equal"),
    [
        ("The Eiffel Tower!", "eiffel tower", True),
        ("It's the U.S.", "its us", True),
        ("3.5", "35", False),  # where SQuAD's script says yes
        ("$1,000", "1000", True),
        ("東京に行く。", "東京 に 行く", True),
        ("“Café”", "café", True),
        ("!", "?", False),
        ("a cat", "a dog", False),
    ],
)
def test_equal_texts(answer: str, reference: str, equal: bool) -> None:
    assert equal_texts(answer, reference) is equal


def test_rouge_is_the_library_s_and_knows_other_scripts_too() -> None:
    answer, reference = "Don't: the well-known cat's 3.5 mats sat", "A cat's mat; sat on 3.5 mats!"
    own = RougeScorer(["rouge1", "rouge2", "rougeL"]).score(reference, answer)
    found = measured_text(ALL, answer, reference)
    assert found[1:4] == [score.fmeasure for score in own.values()]
    assert measured_text(("rouge_l",), "Кот сидит дома", "Кот спит дома") == [pytest.approx(2 / 3)]
    assert measured_text(("rouge_1",), "東京に", "東京へ") == [pytest.approx(2 / 3)]
    assert measured_text(ALL, " ", reference) == [0.0] * 5
    assert measured_text(ALL, reference, reference) == pytest.approx([1.0] * 5)
    assert 0.2 < measured_text(("chrf",), "sitting cats", "the cat sits")[0] < 0.8


def test_a_missing_package_is_named_as_pip_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing_packages(ALL) == []
    monkeypatch.setattr("llm_distill.methods.text_measures.find_spec", lambda name: None)
    assert missing_packages(ALL)[0] == ("rouge_1", "rouge-score")
    assert missing_packages(("token_f1",)) == []


def test_a_free_answer_is_the_tag_or_else_the_whole_text() -> None:
    said = "<think>Hm <ans>x</ans></think> Yes, within 30 days. "
    assert extract_answer(said, "text") == "Yes, within 30 days."
    assert extract_answer("So: <ans> in May </ans> ok", "text") == "in May"
    assert extract_answer(" \n", "text") is None
    assert extract_answer("Well: <ans> </ans>", "text") is None
    assert judge("the end.", "The End", "text") is True
    assert judge("end it", "The End", "text") is False
    assert judge(" ", "The End", "text") is None


def test_squad_words_keep_what_is_no_punctuation() -> None:
    assert squad_words("An apple a day, the théâtre") == ["apple", "day", "théâtre"]
