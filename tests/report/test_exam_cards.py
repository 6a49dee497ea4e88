"""An exam's items: prompts, answers side by side, and what became of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llm_distill.report.samples import Sample, samples
from tests.report.runs import Made, answer

MakeRun = Callable[..., Made]


def _exam(made: Made, rows: list[dict[str, Any]]) -> Sample:
    made.stage("exam", "evaluate", rows)
    return samples(made.view)[0]


def test_a_prompt_that_models_share_is_shown_once(make_run: MakeRun) -> None:
    rows = [
        answer(0, model, True, shots=shots, prompt=f"{style}{shots}")
        for model, style in (("a", "Q"), ("b", "Q"), ("c", "<chat>"))
        for shots in (0, 3)
    ]
    (card,) = _exam(make_run(), rows).cards
    prompts = [(text.label, text.text) for text in card.head if text.is_folded]
    assert prompts == [
        ("prompt, 0-shot, a, b", "Q0"),
        ("prompt, 0-shot, c", "<chat>0"),
        ("prompt, 3-shot, a, b", "Q3"),
        ("prompt, 3-shot, c", "<chat>3"),
    ]
    labels = [entry.label for entry in card.entries]
    assert labels[:4] == ["a, 0-shot", "b, 0-shot", "c, 0-shot", "a, 3-shot"]
    assert card.n_columns == 3


def test_an_answer_that_could_not_be_read_is_told_from_a_wrong_one(make_run: MakeRun) -> None:
    rows = [
        answer(0, "a", False, answer=None, finish_reason="length", reasoning="Well."),
        answer(0, "b", False, answer="9", finish_reason="stop", reasoning=None),
        answer(1, "a", False, answer=None, error="the server is gone", completion=None),
        answer(1, "b", True, answer="2", reasoning=None),
    ]
    sample = _exam(make_run(), rows)
    first, second = sample.cards
    assert [entry.verdict for entry in first.entries] == ["unreadable", "wrong"]
    assert [entry.notes for entry in first.entries] == [("truncated",), ("read as 9",)]
    assert [entry.thought for entry in first.entries] == ["Well.", None]
    assert "unreadable" in first.marks
    assert "unreadable" not in second.marks  # it failed
    assert second.entries[0].error == "the server is gone"
    assert [mark for mark, _ in sample.filters] == ["differ", "gained-0", "lost-0", "unreadable"]


def test_models_differ_where_the_shots_are_the_same(make_run: MakeRun) -> None:
    """Not where every model is wrong without worked examples and right with them."""
    rows = [
        answer(item, model, shots == 3 or (item, model) == (1, "b"), shots=shots)
        for item in (0, 1)
        for model in ("a", "b")
        for shots in (0, 3)
    ]
    sample = _exam(make_run(), rows)
    assert [sorted(card.marks) for card in sample.cards] == [[], ["differ", "gained-0"]]


def test_of_one_model_the_answers_differ(make_run: MakeRun) -> None:
    rows = [answer(item, "a", shots == 3 or item == 0, shots=shots) for item in (0, 1)
            for shots in (0, 3)]  # fmt: skip
    sample = _exam(make_run(), rows)
    assert [sorted(card.marks) for card in sample.cards] == [[], ["differ"]]
    assert sample.filters == (("differ", "some answers right, some wrong"),)


def test_samples_of_one_prompt_stand_beside_each_other_by_model(make_run: MakeRun) -> None:
    rows = [
        answer(0, model, True, id=f"{model}{n}", candidate_index=n)
        for model in ("a", "b")
        for n in (0, 1)
    ]
    (card,) = _exam(make_run(), rows).cards
    assert [entry.label for entry in card.entries] == [
        "a, 0-shot, answer 1", "b, 0-shot, answer 1", "a, 0-shot, answer 2", "b, 0-shot, answer 2",
    ]  # fmt: skip
