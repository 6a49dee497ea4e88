from __future__ import annotations

from itertools import product
from math import comb
from random import Random

import pytest

from llm_distill.methods.racing import Standing, forecast, still_racing


def at(n_correct: int, n_seen: int, n_total: int = 40) -> Standing:
    return Standing(n_correct, n_seen, n_total)


def beta(a: int, b: int) -> float:
    return 1 / (a * comb(a + b - 1, a))


@pytest.mark.parametrize(
    "standing", [at(0, 0, 5), at(3, 4, 9), at(0, 6, 10), at(5, 5, 8), at(2, 5, 5)]
)
def test_the_forecast_is_the_beta_binomials_by_enumeration(standing: Standing) -> None:
    left = standing.n_total - standing.n_seen
    a, b = standing.n_correct + 1, standing.n_seen - standing.n_correct + 1
    chances = [comb(left, k) * beta(a + k, b + left - k) / beta(a, b) for k in range(left + 1)]
    finals = [(standing.n_correct + k) / standing.n_total for k in range(left + 1)]
    assert sum(chances) == pytest.approx(1)
    mean = sum(p * x for p, x in zip(chances, finals, strict=True))
    variance = sum(p * (x - mean) ** 2 for p, x in zip(chances, finals, strict=True))
    assert forecast(standing) == (pytest.approx(mean), pytest.approx(variance))


def far_apart(n_seen: int) -> tuple[dict[str, list[str]], dict[str, Standing]]:
    """Four questions that differ widely, each with a bad, two middling and a good rationale."""
    questions: dict[str, list[str]] = {}
    standings = {}
    for question, shift in enumerate((0.0, 0.1, 0.2, 0.3)):
        for index, chance in enumerate((0.05, 0.3, 0.35, 0.65)):
            name = f"q{question}r{index}"
            questions.setdefault(f"q{question}", []).append(name)
            standings[name] = at(round((chance + shift) * n_seen), n_seen, 4000)
    return questions, standings


def test_those_in_the_middle_stop_and_the_best_and_worst_go_on() -> None:
    questions, standings = far_apart(1000)
    racing = still_racing(questions, standings, quantile=0.25, error=0.01)
    assert racing == {f"q{q}r{r}" for q, r in product(range(4), (0, 3))}


def test_nobody_stops_before_there_is_anything_to_go_by() -> None:
    questions, standings = far_apart(0)
    assert still_racing(questions, standings, quantile=0.25, error=0.01) == set(standings)


def test_those_in_the_middle_go_on_while_their_question_is_at_a_border() -> None:
    questions, standings = far_apart(1000)
    for index in range(4):  # the third question is now as good as the best
        standings[f"q2r{index}"] = standings[f"q3r{index}"]
    racing = still_racing(questions, standings, quantile=0.25, error=0.01)
    assert {"q2r1", "q2r2", "q3r1", "q3r2"} <= racing
    assert not racing & {"q0r1", "q0r2", "q1r1", "q1r2"}


def test_equals_stay_rivals_to_the_end() -> None:
    questions = {"q": ["a", "b", "c"]}
    standings = {"a": at(39, 39), "b": at(39, 39), "c": at(0, 39)}
    assert still_racing(questions, standings, quantile=0.25, error=0.01) == {"a", "b", "c"}


def test_a_candidate_of_two_questions_goes_on_while_one_of_them_needs_it() -> None:
    questions, standings = far_apart(1000)
    questions["q0"].append("q3r3")  # by far the best of the first now
    questions["q3"].append("better")
    standings["better"] = at(1000, 1000, 4000)
    racing = still_racing(questions, standings, quantile=0.25, error=0.01)
    assert "q3r3" in racing
    del questions["q0"][-1]
    assert "q3r3" not in still_racing(questions, standings, quantile=0.25, error=0.01)


def test_who_has_been_asked_everything_does_not_go_on() -> None:
    standings = {"a": at(20, 40), "b": at(3, 40), "c": at(3, 39)}
    assert still_racing({"q": list("abc")}, standings, quantile=0.25, error=0.01) == {"c"}


def test_the_order_of_questions_and_candidates_does_not_matter() -> None:
    questions, standings = far_apart(60)
    expected = still_racing(questions, standings, quantile=0.25, error=0.05)
    names = list(questions)
    for seed in range(5):
        Random(seed).shuffle(names)
        shuffled = {n: Random(seed).sample(questions[n], len(questions[n])) for n in names}
        assert still_racing(shuffled, standings, quantile=0.25, error=0.05) == expected
