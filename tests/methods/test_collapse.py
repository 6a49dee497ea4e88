"""A collapse is told from answers alone, and a training that is meant to change them is none."""

from __future__ import annotations

import pytest

from llm_distill.methods.collapse import LEAST_ANSWERS, Answer, Habits, collapse, habits

N = 16


def written(n: int, length: int, *, ended: bool = True, start: int = 0) -> list[Answer]:
    """As many different answers of different tokens."""
    return [(tuple(range(start + 1000 * i, start + 1000 * i + length)), ended) for i in range(n)]


FLUENT = habits(written(N, 40))


def test_habits_by_hand() -> None:
    answers: list[Answer] = [((1, 2, 3, 4, 1, 2, 3, 4), True), ((5,), False), ((5,), True)]
    found = habits(answers)
    assert found.ended == pytest.approx(2 / 3)
    assert found.length == 1
    assert found.repeated == pytest.approx((1 / 5 + 0 + 0) / 3)  # of 5 4-grams one is there twice
    assert found.same == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="none"):
        habits([])


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (habits([((13, 0), True)] * N), "2 tokens, where they had 40"),
        (habits([(tuple(range(30)), True)] * N), "same answer to 100%"),
        (habits([((7, 8) * 20, True) for _ in range(N - 1)] + written(1, 40)), "same answer"),
        (habits([((i, i) * 20, True) for i in range(N)]), "repeats itself: 97%"),
        (habits(written(N, 60, ended=False)), "does not end: 0%"),
    ],
)
def test_what_a_collapse_looks_like(after: Habits, said: str) -> None:
    assert said in (collapse(FLUENT, after, FLUENT, N) or "")
    assert collapse(FLUENT, after, FLUENT, LEAST_ANSWERS - 1) is None
    assert collapse(after, after, FLUENT, N) is None, "it was so before"
    circles = habits([((i, i) * 20, False) for i in range(N)])
    assert collapse(circles, after, FLUENT, N) is None, "it did not write before"
    assert collapse(FLUENT, after, after, N) is None, "it was trained to write so"


def test_answers_that_cannot_be_read_any_more_are_a_collapse() -> None:
    """Only where both the model before and the rows said what the answer is."""
    own = written(N, 40)
    said = ["To add, count on. <ans>7</ans>", r"So \\boxed{7}", "#### 7", "The answer is 7."] * 4
    reads, rambles = habits(own, said), habits(own, ["Seven comes to mind, or 7."] * N)
    assert (reads.readable, rambles.readable, FLUENT.readable) == (1, 0, None)
    assert "0% of its answers say what the final answer is, and 100% did" in (
        collapse(reads, rambles, reads, N) or ""
    )
    half = habits(own, said[:10] + ["7 is what I say"] * 6)
    assert half.readable == 10 / 16
    assert collapse(reads, half, reads, N) is None
    for before, rows in ((rambles, reads), (reads, rambles), (FLUENT, reads), (reads, FLUENT)):
        assert collapse(before, rambles, rows, N) is None


def test_fluent_answers_are_no_collapse() -> None:
    shorter = habits(written(N, 15, start=500))
    assert collapse(FLUENT, shorter, FLUENT, N) is None


def test_a_model_that_was_cut_off_can_collapse() -> None:
    long = habits(written(N, 60, ended=False))
    assert "2 tokens" in (collapse(long, habits([((13, 0), True)] * N), FLUENT, N) or "")


def test_the_majoritys_answer_to_yes_or_no_is_no_collapse() -> None:
    labels = habits([((1,), True)] * 8 + [((2,), True)] * 8)
    assert collapse(FLUENT, habits([((1,), True)] * N), labels, N) is None
