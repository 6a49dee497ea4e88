"""s_r and s_q, and what does not count."""

from __future__ import annotations

import pytest

from llm_distill.methods.in_context_score import Tally, mean_by, question_scores


def test_an_unreadable_answer_is_wrong_and_counted_apart() -> None:
    tally = Tally()
    tally.add(True)
    tally.add(False)
    tally.add(None)
    tally.add(True)
    assert tally.score == 0.5
    assert (tally.n_items, tally.parse_failures) == (4, 1)


def test_no_items_is_no_score_and_not_a_score_of_zero() -> None:
    assert Tally().score is None


def test_a_questions_score_is_the_mean_over_its_parsed_rationales() -> None:
    scores = question_scores([("a", 0.2), ("b", 0.5), ("a", None), ("a", 0.6), ("c", None)])
    assert scores == {"a": pytest.approx(0.4), "b": 0.5}


def test_mean_by() -> None:
    assert mean_by([("x", 1.0), ("y", 5.0), ("x", 2.0)]) == {"x": 1.5, "y": 5.0}
