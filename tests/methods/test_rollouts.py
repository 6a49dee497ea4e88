"""Planted rollouts: normal ones, loops, cut ones; their figures by hand, and what is stopped."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from llm_distill.methods.rollouts import (
    LEAST_ROLLOUTS,
    Gap,
    Limits,
    Rollout,
    Shared,
    effective_share,
    repeated,
    trouble,
    watched,
)

GOOD = "Mia has 12 books and loses 7 of them. 12 - 7 = 5, so 5 books are left."
LOOP = "So we add them up. " * 30
DEFAULT = Limits(truncated=0.1, repetition=0.4, growth=2.0)


def rollout(text: str = GOOD, n_tokens: int | None = 20, *, is_cut: bool = False) -> Rollout:
    empty = not text.strip()
    return Rollout("a", "a", len(text), is_cut, empty, repeated(text), n_tokens)


def round_of(*rollouts: tuple[Rollout, int]) -> list[Rollout]:
    return [each for each, count in rollouts for _ in range(count)]


@pytest.mark.parametrize(
    "loop", [LOOP, "!" * 300, "0" * 300, "abc" * 100, "是的，我们继续。" * 20, "7. 7. 7. 7. " * 20]
)
def test_a_loop_is_found_in_any_script_and_without_spaces(loop: str) -> None:
    assert repeated(loop) > 0.8


@pytest.mark.parametrize("text", ["", "  ", "5", GOOD, "12 apples. 12 - 7 = 5. 12 + 7 = 19."])
def test_a_text_without_a_loop_repeats_nothing(text: str) -> None:
    assert repeated(text) == 0


def test_what_is_written_once_and_again_is_half() -> None:
    units = [f"w{i}" for i in range(100)]
    text = " ".join(units + units)
    assert repeated(text) == pytest.approx((197 - 100) / 197)


def test_figures_of_a_group_by_hand() -> None:
    rows = [
        replace(
            rollout("ab", 1),
            prompt="p",
            gap=Gap(2.0, 1, 4),
            shared=Shared(0.5, 0.8, 1.0, 1),
            log_ratios=(0.0, 0.0),
        ),
        replace(
            rollout("abcd", 3, is_cut=True),
            prompt="q",
            gap=Gap(-1.0, 3, 4),
            shared=Shared(1.5, 1.4, 2.4, 3),
            log_ratios=(math.log(2),),
        ),
        rollout(" ", 0),
    ]
    found = watched(rows)
    assert (found.n_rows, found.n_compared, found.mean_tokens) == (3, 2, pytest.approx(4 / 3))
    assert found.mean_characters == pytest.approx(7 / 3)
    assert (found.truncated, found.empty) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert found.reverse_kl == pytest.approx(1 / 4)  # of all tokens, not the mean of the rows'
    assert found.reverse_kl_per_byte == pytest.approx(1 / 8)
    assert (found.reverse_kl_low, found.reverse_kl_high) == pytest.approx((-1 / 3, 2.0))
    assert found.ess == pytest.approx(16 / (3 * 6))  # weights 1, 1, 2
    assert found.shared_tokens == pytest.approx(0.5)
    assert found.shared_of_teacher == pytest.approx(0.55)
    assert found.shared_mass == pytest.approx(0.55)


def test_texts_of_one_prompt_are_one_draw() -> None:
    """As many draws as prompts: copies of a text do not make an interval narrower."""
    once = [replace(rollout(), prompt=p, gap=Gap(g, 1, 1)) for p, g in (("p", 0.0), ("q", 1.0))]
    often = watched([each for each in once for _ in range(50)])
    assert often.reverse_kl_low == watched(once).reverse_kl_low == 0
    assert watched([replace(each, prompt="p") for each in once]).reverse_kl_low is None


@pytest.mark.parametrize(
    ("weights", "share"), [([1.0] * 7, 1.0), ([1.0, 0.0], 0.5), ([4.0, 1.0], 25 / 34)]
)
def test_effective_share_is_that_of_its_definition(weights: list[float], share: float) -> None:
    logs = [math.log(w) if w else -1e9 for w in weights]
    assert effective_share(logs) == pytest.approx(share)
    assert effective_share([x + 5000 for x in logs]) == pytest.approx(share)  # does not overflow


FIRST = watched(round_of((rollout(), 97), (rollout(is_cut=True), 3)))


@pytest.mark.parametrize(
    ("rollouts", "why"),
    [
        (round_of((rollout(), 100)), None),
        (round_of((rollout(), 92), (rollout(is_cut=True), 8)), None),  # doubled, but few
        (round_of((rollout(), 80), (rollout(is_cut=True), 20)), "20.0% of the texts are cut"),
        (round_of((rollout(), 40), (rollout(LOOP, 150), 60)), "was written before"),
        (round_of((rollout(), 80), (rollout(LOOP, 30), 20)), None),
        (round_of((rollout(n_tokens=39), 100)), None),
        (round_of((rollout(n_tokens=41), 100)), "41 tokens, 2.0 times the 20"),
        (round_of((rollout(GOOD + GOOD[::-1] * 2, None), 100)), "characters, 3.0 times"),
        (round_of((rollout(LOOP, 500, is_cut=True), LEAST_ROLLOUTS - 1)), None),  # too few to say
    ],
)
def test_a_bad_round_is_told_from_a_good_one(rollouts: list[Rollout], why: str | None) -> None:
    found = trouble(watched(rollouts), FIRST, DEFAULT)
    assert (found is None) == (why is None)
    assert found is None or str(why) in found.why


def test_a_share_that_was_as_high_from_the_start_is_not_a_trend() -> None:
    high = watched(round_of((rollout(), 80), (rollout(is_cut=True), 20)))
    assert trouble(high, high, DEFAULT) is None
    assert trouble(high, None, DEFAULT) is None  # the first round: nothing to compare with
    loops = watched(round_of((rollout(LOOP), 100)))
    assert trouble(loops, None, DEFAULT)  # but loops are loops


def test_a_limit_that_is_off_stops_nothing() -> None:
    bad = watched(round_of((rollout(LOOP, 500, is_cut=True), 100)))
    assert trouble(bad, FIRST, Limits(None, None, None)) is None
