"""Wrong solutions: how many, which, nested, whatever the order; by brute force."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from llm_distill.methods.calculations import calculations, wrong_steps
from llm_distill.methods.corruption import (
    corrupted,
    one_more,
    random_error,
    replaced,
    steps_each,
    swapped,
    with_wrong_answer,
    with_wrong_steps,
)

IDS = [f"q{i}" for i in range(97)]
RATES = [0, 0.01, 0.1, 0.3, 0.5, 0.9, 0.99, 1]


def two_steps(a: int, b: int, c: int) -> tuple[str, str]:
    d, e = a - b, a - b + c
    return f"1. Start with {a}. 2. {a} - {b} = {d}. 3. {d} + {c} = {e}. <ans>{e}</ans>", str(e)


def chain(n: int, rng: Random) -> tuple[str, str]:
    """A sum of n steps."""
    total, steps = rng.randint(1, 20), []
    for _ in range(n):
        more = rng.randint(1, 20)
        steps.append(f"{total} + {more} = {total + more}.")
        total += more
    return f"{' '.join(steps)} <ans>{total}</ans>", str(total)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_share_is_exact_and_what_is_wrong_stays_wrong(seed: int) -> None:
    taken = [replaced(IDS, rate, seed) for rate in RATES]
    assert [len(each) for each in taken] == [round(rate * len(IDS)) for rate in RATES]
    for fewer, more in pairwise(taken):
        assert more[: len(fewer)] == fewer
    mixed = list(IDS)
    Random(3).shuffle(mixed)
    assert [replaced(mixed, rate, seed) for rate in RATES] == taken
    assert set(replaced(IDS, 0.5, seed + 5)) != set(taken[RATES.index(0.5)])


def test_every_row_is_as_likely_to_be_taken() -> None:
    taken = Counter(row for seed in range(400) for row in replaced(IDS[:10], 0.3, seed))
    assert all(80 < taken[row] < 160 for row in IDS[:10])  # 120 each, 5 σ either way


@pytest.mark.parametrize("share", [0.3, 0.5, 0.77, 1.0])
def test_the_share_of_steps_is_exact_and_the_same_in_a_larger_set(share: float) -> None:
    rng = Random(1)
    n_steps = {row: rng.randint(4, 7) for row in IDS}
    whole = steps_each(n_steps, share)
    assert sum(whole.values()) == round(share * sum(n_steps.values()))
    for n in range(1, len(IDS)):
        part = steps_each(dict(list(n_steps.items())[:n]), share)
        assert part == {row: whole[row] for row in IDS[:n]}
        assert sum(part.values()) == round(share * sum(n_steps[row] for row in part))
    assert all(1 <= whole[row] <= n_steps[row] for row in IDS)


def test_a_row_has_at_least_one_wrong_step() -> None:
    assert steps_each({"a": 2, "b": 2, "c": 2}, 0.01) == {"a": 1, "b": 1, "c": 1}
    assert steps_each({"a": 2, "b": 2}, 0.5) == {"a": 1, "b": 1}
    assert steps_each({"a": 2, "b": 2}, 1) == {"a": 2, "b": 2}


@pytest.mark.parametrize("is_random", [True, False])
def test_as_many_steps_are_wrong_as_are_asked_for(is_random: bool) -> None:
    rng = Random(2)
    for _ in range(200):
        n = rng.randint(1, 5)
        text, answer = chain(n, rng)
        for wrong in range(n + 1):
            made = corrupted(text, answer, wrong, is_random, rng.randint(0, 10**6))
            assert made is not None
            assert wrong_steps(made[0]) == (wrong, n)
            assert made[1] != answer
            assert made[0].endswith(f"<ans>{made[1]}</ans>")
            if wrong:  # an error is carried on, so what is answered is what the last step gives
                last = calculations(made[0])[-1]
                assert made[0][slice(*last.right)] == made[1]
            else:
                assert made[0].replace(f"<ans>{made[1]}", f"<ans>{answer}") == text


def test_more_wrong_steps_hold_the_fewer() -> None:
    rng = Random(4)
    for seed in range(50):
        text, answer = chain(5, rng)
        wrong = []
        for n in range(1, 6):
            made = corrupted(text, answer, n, False, seed)
            assert made is not None
            wrong.append({i for i, c in enumerate(calculations(made[0])) if not c.is_right})
        assert all(fewer < more for fewer, more in pairwise(wrong))


def test_a_systematic_error_of_each_step_adds_up() -> None:
    for a, b, c in [(9, 3, 4), (12, 11, 2), (4, 2, 2), (5, 4, 1)]:
        text, answer = two_steps(a, b, c)
        d = a - b + 1
        assert with_wrong_steps(text, answer, [0, 1], one_more) == (
            f"1. Start with {a}. 2. {a} - {b} = {d}. 3. {d} + {c} = {d + c + 1}. "
            f"<ans>{d + c + 1}</ans>",
            str(d + c + 1),
        )
        assert with_wrong_answer(text, answer, one_more) == (
            text.replace("<ans>" + answer, f"<ans>{int(answer) + 1}"),
            str(int(answer) + 1),
        )


def test_random_errors_cancel_in_no_answer() -> None:
    text, answer = two_steps(5, 3, 4)
    for seed in range(2000):
        made = corrupted(text, answer, 2, True, seed)
        assert made is not None
        assert made[1] != answer


def test_random_errors_are_spread_evenly_over_numbers_of_the_same_size() -> None:
    drawn = Counter(random_error(seed)("15") for seed in range(30_000))
    assert set(drawn) == {str(n) for n in range(31)} - {"15"}
    assert all(850 < n < 1150 for n in drawn.values())  # 1,000 each, 5 σ either way
    assert {random_error(seed)("$4.75")[:1] for seed in range(50)} == {"$"}
    assert all(len(random_error(seed)("4.75").partition(".")[2]) == 2 for seed in range(50))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Looking at it helps. <ans>Monday</ans>", "Monday"),  # no number
        ("3 + 4 = 7. <ans>7</ans>", "8"),  # another answer
        ("", "7"),
    ],
)
def test_what_cannot_be_made_wrong(text: str, answer: str) -> None:
    assert corrupted(text, answer, 0, True, 0) is None
    assert corrupted(text, answer, 1, True, 0) is None


def test_errors_that_cancel_out_whatever_they_are() -> None:
    text = "3 + 4 = 7. 7 * 0 = 0. <ans>0</ans>"
    assert with_wrong_steps(text, "0", [0], one_more) == ("3 + 4 = 8. 8 * 0 = 0. <ans>0</ans>", "0")
    made = [corrupted(text, "0", 1, is_random, 0) for is_random in (True, False)]
    assert all(each is None or each[1] != "0" for each in made)


def test_a_result_is_carried_into_its_first_place_only() -> None:
    text = "2 + 2 = 4. 4 + 4 = 8. <ans>8</ans>"
    assert with_wrong_steps(text, "8", [0], one_more) == (
        "2 + 2 = 5. 5 + 4 = 9. <ans>9</ans>",
        "9",
    )


def test_the_answer_is_the_last_place_and_no_part_of_a_number() -> None:
    assert with_wrong_answer("9 of 9. So 19, 9.5 and 9.", "9", one_more) == (
        "9 of 9. So 19, 9.5 and 10.",
        "10",
    )
    assert with_wrong_answer("$1,299.50", "1,299.50", one_more) == ("$1300.50", "1300.50")


def test_a_result_is_carried_on_once() -> None:
    text = "2 + 2 = 4. 4 + 1 = 5. 4 * 5 = 20. <ans>20</ans>"  # the second 4 is the question's
    assert with_wrong_steps(text, "20", [0], one_more) == (
        "2 + 2 = 5. 5 + 1 = 6. 4 * 6 = 24. <ans>24</ans>",
        "24",
    )


@pytest.mark.parametrize("seed", range(5))
def test_swapped_solutions_are_a_permutation_without_a_fixed_answer(seed: int) -> None:
    rng = Random(seed)
    rows = {f"q{i}": (rng.choice("ab"), str(rng.randint(1, 6))) for i in range(60)}
    found = swapped(rows, seed)
    assert sorted(found) == sorted(found.values()) == sorted(rows)
    for row, other in found.items():
        assert rows[row][0] == rows[other][0]
        assert rows[row][1] != rows[other][1]
    assert swapped(dict(reversed(rows.items())), seed) == found
    assert swapped(rows, seed + 1) != found


def test_an_answer_of_more_than_half_cannot_be_swapped_for_all() -> None:
    rows = {**{f"same{i}": ("", "1") for i in range(3)}, "other": ("", "2")}
    found = swapped(rows, 0)
    assert "other" in found.values()
    assert all(rows[row][1] != rows[other][1] for row, other in found.items())
    assert len(found) == 2  # "other" gets one of three, and one of these gets its solution
    assert swapped({"alone": ("", "1")}, 0) == {}
