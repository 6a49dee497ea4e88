"""The profile of missing skills, against enumeration."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest

from llm_distill.methods.skill_profile import missing_skill_profile
from llm_distill.methods.statistics import bootstrap_shares

QUESTIONS = [
    ("sums", "q1", ["carrying", "addition"]),
    ("sums", "q2", ["carrying"]),
    ("dates", "q3", ["addition", "leap_years", "addition"]),
    ("sums", "q4", ["carrying", "addition", "order"]),
    ("sums", "q5", []),
]


def test_counts_weights_and_questions() -> None:
    found = missing_skill_profile(QUESTIONS)
    assert [(s.task, s.skill, s.count) for s in found] == [
        ("sums", "carrying", 3),
        ("sums", "addition", 2),
        ("dates", "addition", 1),
        ("dates", "leap_years", 1),
        ("sums", "order", 1),
    ]
    assert [s.weight.value for s in found] == [3 / 8, 2 / 8, 1 / 8, 1 / 8, 1 / 8]
    assert found[0].question_ids == ("q1", "q2", "q4")
    assert all(0 <= s.weight.low <= s.weight.value <= s.weight.high <= 1 for s in found)
    assert missing_skill_profile([]) == []
    assert missing_skill_profile([("", "q", [])]) == []


def test_a_question_without_a_label_changes_nothing() -> None:
    assert missing_skill_profile(QUESTIONS) == missing_skill_profile(QUESTIONS[:4])


def test_intervals_are_those_of_all_draws_of_questions() -> None:
    """Every draw of 4 of 4 questions is as likely; their quantiles are the interval's ends."""
    labelled = [(task, set(skills)) for task, _, skills in QUESTIONS[:4]]
    shares: dict[tuple[str, str], list[float]] = {}
    every = {(task, skill) for task, skills in labelled for skill in skills}
    for draw in product(labelled, repeat=4):
        counts = Counter((task, skill) for task, skills in draw for skill in skills)
        for key in every:
            shares.setdefault(key, []).append(counts[key] / counts.total())
    for found in missing_skill_profile(QUESTIONS):
        low, high = np.quantile(shares[found.task, found.skill], [0.025, 0.975])
        assert found.weight.low == pytest.approx(low, abs=0.03)
        assert found.weight.high == pytest.approx(high, abs=0.03)


def test_shares_of_a_table() -> None:
    (one, other) = bootstrap_shares([[1, 3], [1, 3]])
    assert (one.value, one.low, one.high) == (0.25, 0.25, 0.25)
    assert other.value == 0.75
    assert bootstrap_shares([[1, 0], [0, 1]]) == bootstrap_shares([[1, 0], [0, 1]])
    for wrong in ([], [[]], [[0, 0], [1, 0]], [[-1, 2]]):
        with pytest.raises(ValueError, match="shares need items"):
            bootstrap_shares(wrong)
