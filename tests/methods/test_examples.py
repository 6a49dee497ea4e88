"""Worked examples: of the task, seeded, never the row itself or what was made from it."""

from __future__ import annotations

from collections import Counter

import pytest

from llm_distill.errors import DataError
from llm_distill.methods.examples import draw_examples, question_key, usable

POOLS = {
    "sums": [{"id": f"s{i}", "task": "sums", "question": f"1 + {i}?"} for i in range(6)],
    "dates": [{"id": "d0", "task": "dates", "question": "Which day?"}],
}


def test_the_row_itself_and_other_tasks_are_never_drawn() -> None:
    row = POOLS["sums"][2]
    for seed in range(50):
        drawn = draw_examples(row, POOLS, 5, seed)
        assert {example["id"] for example in drawn} == {"s0", "s1", "s3", "s4", "s5"}


def test_what_was_made_from_the_row_or_asks_the_same_is_passed_over() -> None:
    pools = {
        "": [
            {"id": "t1-0", "parent_id": "t1", "question": "x"},
            {"id": "other", "parent_id": "p", "question": " What  is 2 + 2? "},
            {"id": "good", "parent_id": "p", "question": "y"},
        ]
    }
    row = {"id": "t1", "question": "what is 2 + 2?"}
    assert {draw_examples(row, pools, 1, seed)[0]["id"] for seed in range(30)} == {"good"}


def test_one_prompt_does_not_show_a_question_twice() -> None:
    pools = {"": [{"id": str(i), "question": f"q{i // 3}"} for i in range(9)]}
    for seed in range(30):
        drawn = draw_examples({"id": "t", "question": "t"}, pools, 3, seed)
        assert len({example["question"] for example in drawn}) == 3


def test_the_same_seed_draws_the_same_and_fewer_are_the_first_of_more() -> None:
    row = {"id": "t", "task": "sums", "question": "t"}
    three = draw_examples(row, POOLS, 3, 11)
    assert draw_examples(row, POOLS, 3, 11) == three
    assert draw_examples(row, POOLS, 1, 11) == three[:1]


def test_every_example_is_drawn_about_equally_often() -> None:
    row = {"id": "t", "task": "sums", "question": "t"}
    counts = Counter(e["id"] for seed in range(3000) for e in draw_examples(row, POOLS, 2, seed))
    assert len(counts) == 6
    assert all(abs(count - 1000) < 120 for count in counts.values())  # 5 standard deviations


def test_too_few_examples_are_an_error_that_names_the_row() -> None:
    with pytest.raises(DataError, match="row d9: 2 examples of task 'dates' are wanted and 1 of 1"):
        draw_examples({"id": "d9", "task": "dates", "question": "t"}, POOLS, 2, 0)
    with pytest.raises(DataError, match="0 of 0"):
        draw_examples({"id": "x", "task": "none", "question": "t"}, POOLS, 1, 0)


def test_usable() -> None:
    assert usable({"question": "q"}, ("question", "rationale"))
    assert not usable({"question": "q", "rationale": None}, ("question", "rationale"))
    assert not usable({"question": " "}, ("question",))
    assert not usable({"question": "q", "error": "no tag"}, ("question",))
    assert question_key(" A  b") == question_key("a B")
