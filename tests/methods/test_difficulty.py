"""Difficult questions: each rule against its definition, word for word."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_distill.methods.answers import answers_equal
from llm_distill.methods.difficulty import (
    Verdicts,
    by_consistency,
    by_reference,
    by_rewards,
)

# Values at, just above and just below the thresholds, and far from them.
rewards = st.lists(
    st.sampled_from([0.0, 0.3, 0.69, 0.7, 0.71, 0.84, 0.85, 0.86, 0.95, 1.0]), min_size=1
)


@given(rewards)
def test_rewards_as_the_paper_has_it(scores: list[float]) -> None:
    last, rest = scores[-1], scores[:-1]
    low_last = last <= 0.85
    low_mean = sum(round(score * 100) for score in scores) <= 85 * len(scores)
    low_step = any(score <= 0.7 for score in rest)
    reason = by_rewards("7", scores)
    assert (reason is not None) == (low_last or low_mean or low_step)
    assert reason == (
        "last step"
        if low_last
        else "mean of the steps"
        if low_mean
        else "earlier step"
        if low_step
        else None
    )


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ([0.85], "last step"),  # at most, not below
        ([0.8501], None),
        ([0.75], "last step"),  # a single step is the last one: its threshold is the answer's
        ([0.7, 1.0, 1.0], "earlier step"),
        ([0.701, 1.0, 1.0], None),
        ([0.71, 0.71, 0.9], "mean of the steps"),
        ([0.84, 0.86], "mean of the steps"),  # which is 0.85
        ([1.0, 1.0, 0.8], "last step"),
        ([], "no answer"),
    ],
)
def test_reward_cases(scores: list[float], reason: str | None) -> None:
    assert by_rewards("7", scores) == reason


def test_thresholds_are_settings() -> None:
    assert by_rewards("7", [0.5, 0.6]) == "last step"
    assert by_rewards("7", [0.5, 0.6], answer_threshold=0.5, step_threshold=0.4) is None
    assert by_rewards("7", [0.5, 0.6], answer_threshold=0.5, step_threshold=0.5) == "earlier step"
    # The last step is no earlier one.
    assert by_rewards("7", [0.95, 0.6], answer_threshold=0.5, step_threshold=0.9) is None


@pytest.mark.parametrize("answer", [None, "", " \n"])
def test_no_answer_is_difficult_whatever_the_steps_are_worth(answer: str | None) -> None:
    assert by_rewards(answer, [1.0, 1.0]) == "no answer"
    assert by_reference(answer, False) == "no answer"
    assert by_consistency([answer] * 5) == "no answer"


def test_by_reference() -> None:
    assert by_reference("7", True) is None
    assert by_reference("8", False) == "wrong answer"


@given(
    st.lists(st.sampled_from(["7", "7.", " 7", "8", "x", "X", " ", None]), min_size=1, max_size=6),
    st.integers(1, 4),
)
def test_consistency_by_brute_force(answers: list[str | None], least: int) -> None:
    """Enough votes: some `least` of the answers are readable and equal in pairs."""
    readable = [answer for answer in answers if answer is not None and answer.strip()]
    agree = any(
        all(answers_equal(a, b) for a, b in combinations(group, 2))
        for group in combinations(readable, least)
    )
    reason = by_consistency(answers, "exact", least)
    assert reason == (None if agree else "answers disagree" if readable else "no answer")


def test_consistency_compares_as_the_setting_says() -> None:
    assert by_consistency(["7", "7.0", "8", "9", None], "math") is None
    assert by_consistency(["7", "7.0", "8", "9", None], "exact") == "answers disagree"


def test_verdicts_are_held_against_the_references() -> None:
    verdicts = Verdicts()
    for reason, is_correct in [
        ("last step", False),
        ("last step", True),
        (None, True),
        (None, False),
        ("no answer", False),
        ("mean of the steps", None),
    ]:
        verdicts.add(reason, is_correct)
    assert verdicts.figures() == {
        "n": 6,
        "n_difficult": 4,
        "share_difficult": 4 / 6,
        "reasons": {"last step": 2, "no answer": 1, "mean of the steps": 1},
        "n_with_reference": 5,
        "accuracy": 2 / 5,
        "verdict_accuracy": 3 / 5,
    }


def test_nothing_counted_has_no_shares() -> None:
    figures = Verdicts().figures()
    assert figures["n"] == 0
    assert figures["share_difficult"] is figures["accuracy"] is figures["verdict_accuracy"] is None
