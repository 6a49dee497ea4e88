"""pass@k against every draw, the majority's answer, and consensus."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, permutations, product
from math import log

import pytest

from llm_distill.methods.sampled_answers import (
    answer_entropy,
    answer_groups,
    budgets,
    consensus,
    disagreement,
    elected,
    majority,
    pass_at_k,
)


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_pass_at_k_is_the_share_of_draws_with_a_right_answer(n: int) -> None:
    for n_correct in range(n + 1):
        right = [i < n_correct for i in range(n)]
        for k in range(1, n + 1):
            draws = [any(draw) for draw in combinations(right, k)]
            assert pass_at_k(n, n_correct, k) == pytest.approx(sum(draws) / len(draws))


def test_pass_at_k_is_unbiased() -> None:
    """Over all outcomes of n tosses of a coin with chance p, its mean is 1 − (1 − p)^k."""
    from scipy.stats import binom

    n, k, p = 6, 3, 0.3
    mean = sum(binom.pmf(c, n, p) * pass_at_k(n, c, k) for c in range(n + 1))
    assert mean == pytest.approx(1 - (1 - p) ** k)


@pytest.mark.parametrize(("n", "c", "k"), [(3, 1, 0), (3, 1, 4), (3, 4, 1), (3, -1, 1)])
def test_what_is_not_defined(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="not defined"):
        pass_at_k(n, c, k)


def test_the_budgets_shown() -> None:
    assert [budgets(n) for n in (1, 2, 3, 8, 10)] == [[1], [1, 2], [1, 2, 3], [1, 2, 4, 8], [1, 2, 4, 8, 10]]  # noqa: E501 # fmt: skip


def test_the_majority() -> None:
    assert majority(["3", "4", " 4."]) == 1
    assert majority(["3", "4", "4", "3"]) == 0  # as many votes: the first
    assert majority([None, "", None, "5"]) == 3  # what cannot be read has no vote
    assert majority([None, " "]) is None
    assert majority(["1/2", "0.5", "2"], "math") == 0
    assert majority(["2", "1/2", "0.5"], "math") == 1
    assert majority(["(A)", "B", "A"], "choice") == 0


@pytest.mark.parametrize(
    ("answers", "kept", "reason"),
    [
        (["7", "8", "7."], [0, 2], None),
        (["1", "2", "3"], [], "no agreement"),
        ([None, None, ""], [], "no answer"),
        ([None, "5", None], [], "no agreement"),
        (["5", None, "5"], [0, 2], None),
        (["1", "2", "1", "2"], [], "a tie"),
        (["1", "2", "2", "1", "2"], [1, 2, 4], None),
        (["4", "4", "4"], [0, 1, 2], None),
        ([], [], "no answer"),
    ],
)
def test_consensus(answers: list[str | None], kept: list[int], reason: str | None) -> None:
    assert consensus(answers, 2) == (kept, reason)


def test_consensus_of_three_against_every_outcome() -> None:
    """By counting: of three answers, those that the most frequent readable one equals."""
    for answers in product(["a", "b", "c", None], repeat=3):
        counts = Counter(answer for answer in answers if answer)
        wanted = [a for a, n in counts.items() if n >= 2]
        kept, _ = consensus(answers, 2)
        assert kept == [i for i in range(3) if answers[i] in wanted]


def test_answers_are_equal_as_mathematics_and_groups_are_not_chained() -> None:
    assert consensus(["1/2", "0.5", "2"], 2, "math") == ([0, 1], None)
    assert consensus(["1/2", "0.5", "2"], 2) == ([], "no agreement")
    # "(B) 7" equals "B" and "b) 8" as a choice; each joins the group of the first that it equals.
    assert answer_groups(["(B) 7", "A", "b) 8", "B"], "choice") == [[0, 2, 3], [1]]


@pytest.mark.parametrize(
    ("answers", "scores", "by_sum", "by_best"),
    [
        (["7", "8", "7.", "9"], [0.2, 0.5, 0.4, 0.5], 2, 1),  # of the elected ones the best
        (["1", "2", "3"], [-3.0, -1.0, None], 1, 1),  # negative is fine, none is no vote
        ([None, " ", "4"], [9.0, 9.0, 0.0], 2, 2),  # unreadable does not vote
        (["1", "2", "2"], [1.0, 1.0, 0.0], 1, 1),  # equal sums: the more common one
        (["1", "2", "2"], [1.0, 1.0, 0.5], 1, 1),  # equal bests: the more common one
        (["1", "2"], [0.5, 0.5], 0, 0),  # equal in all: the first
        (["1", "2"], [None, None], None, None),
    ],
)
def test_votes_by_score(
    answers: list[str | None], scores: list[float | None], by_sum: int | None, by_best: int | None
) -> None:
    assert elected(answers, scores, "score_sum") == by_sum
    assert elected(answers, scores, "best_score") == by_best
    assert elected(answers, scores, "majority") == majority(answers)


def test_a_majority_is_a_sum_of_equal_scores() -> None:
    for drawn in product(["1", "2", "1.0", None], repeat=4):
        for kind in ("exact", "math"):
            by_sum = elected(drawn, [0.5] * 4, "score_sum", kind)  # type: ignore[arg-type]
            assert by_sum == majority(drawn, kind)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_disagreement_and_entropy_of_every_combination_of_answers(n: int) -> None:
    """By their definitions, with the unread ones told apart by hand."""
    for answers in product(["1", "2", "3", None, ""], repeat=n):
        named = [each if each else f"unread {i}" for i, each in enumerate(answers)]
        shares = [count / n for count in Counter(named).values()]
        assert disagreement(answers) == pytest.approx(1 - max(shares))
        assert answer_entropy(answers) == pytest.approx(sum(-p * log(p) for p in shares))
        assert 0 <= disagreement(answers) <= 1 - 1 / n
        assert 0 <= answer_entropy(answers) <= log(n) + 1e-12


def test_how_sure_a_student_is_does_not_depend_on_order_or_spelling() -> None:
    answers = ["7", "8", " 7. ", "7"]
    for order in permutations(answers):
        assert disagreement(order) == 0.25
        assert answer_entropy(order) == pytest.approx(log(4) - 0.75 * log(3))
    assert disagreement(["1/2", "0.5"]) == 0.5
    assert disagreement(["1/2", "0.5"], "math") == answer_entropy(["1/2", "0.5"], "math") == 0


def test_the_entropy_of_many_samples_is_that_of_their_source() -> None:
    from random import Random

    drawn = Random(0).choices(["a", "b", "c"], [0.7, 0.2, 0.1], k=4000)
    assert answer_entropy(drawn) == pytest.approx(0.8018, abs=0.02)  # −Σ p ln p
    few = [Random(i).choices(["a", "b", "c"], [0.7, 0.2, 0.1], k=4) for i in range(500)]
    assert sum(map(answer_entropy, few)) / 500 < 0.65  # too low from four


def test_no_answers_at_all() -> None:
    for figure in (disagreement, answer_entropy):
        with pytest.raises(ValueError, match="no answers"):
            figure([])
