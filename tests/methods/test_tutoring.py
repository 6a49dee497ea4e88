"""What dialogues came to, against brute force over all short dialogues."""

from __future__ import annotations

import itertools

import pytest

from llm_distill.methods.tutoring import (
    MEASURES,
    act_counts,
    by_item,
    outcome,
    paired,
    says_answer,
    share,
)


def by_hand(turns: tuple[tuple[str, bool], ...], k: int) -> tuple[bool, bool, bool]:
    """MathDial's words, read off the dialogue itself.

    It is cut after the pupil's k-th turn, or at its first right answer.
    """
    kept: list[tuple[str, bool]] = []
    n = 0
    is_right = False
    for speaker, has_answer in turns:
        if n == k or is_right:
            break
        kept.append((speaker, has_answer))
        n += speaker == "s"
        is_right = speaker == "s" and has_answer
    told = any(speaker == "t" and has_answer for speaker, has_answer in kept)
    return is_right, told, is_right and not told


@pytest.mark.parametrize("first", ["t", "s"])
def test_all_dialogues_of_seven_turns(first: str) -> None:
    other = {"t": "s", "s": "t"}[first]
    for n in range(8):
        order = [first, other] * 4
        for has in itertools.product((False, True), repeat=n):
            turns = tuple(zip(order, has, strict=False))
            found = outcome(turns, "t", "s")
            for k in range(1, 6):
                assert tuple(found.at(k)[name] for name in MEASURES) == by_hand(turns, k)


def test_measures_grow_with_k_and_success_is_the_sum() -> None:
    for has in itertools.product((False, True), repeat=8):
        found = outcome(zip("tstststs", has, strict=True), "t", "s")
        at = [found.at(k) for k in range(1, 5)]
        for before, after in itertools.pairwise(at):
            assert before["success"] <= after["success"]
            assert before["telling"] <= after["telling"]
        for each in at:
            told = each["success"] and each["telling"]
            assert each["success"] == told + each["success without telling"]


def test_others_who_speak_count_for_nobody() -> None:
    found = outcome([("x", True), ("t", False), ("s", True), ("x", True)], "t", "s")
    assert (found.success, found.telling) == (1, None)


@pytest.mark.parametrize(
    ("text", "final", "anywhere"),
    [
        ("The answer is 22.", True, True),
        ("It is 22, since 17 + 5 does that.", False, True),  # the last number is 5
        ("Is it 12 or 22?", True, True),
        ("It is not 22 but 12.", False, True),
        ("Think again.", False, False),
        ("22,000 is too much, and so is -22, and 2022.", False, False),
        ("So 22.0 it is", True, True),
    ],
)
def test_where_a_turn_has_the_answer(text: str, final: bool, anywhere: bool) -> None:
    assert says_answer(text, "22", "math") is final
    assert says_answer(text, "22", "math", "anywhere") is anywhere


def test_words_as_an_answer() -> None:
    told = "As you say, the capital of the north it was."
    assert not says_answer(told, "North", "exact")
    assert says_answer(told, "North", "exact", "anywhere")
    assert not says_answer("The northern one.", "north", "exact", "anywhere")


def test_a_turn_that_was_cut_has_no_last_number() -> None:
    assert says_answer("You get 17 + 5 = 22", "22", "math", ended=True)
    assert not says_answer("You get 17 + 5 = 22", "22", "math", ended=False)


def test_several_dialogues_about_an_item_are_one_value() -> None:
    items = by_item([("a", 1.0), ("b", 0.0), ("a", 0.0), ("b", 0.0)])
    assert items == {"a": 0.5, "b": 0.0}
    assert share(items).value == 0.25
    all_right = share({str(i): 1.0 for i in range(10)})
    assert (all_right.value, round(all_right.low, 4)) == (1, 0.7225)  # Wilson's has a width


def test_tutors_are_compared_on_the_items_of_both() -> None:
    found = paired({"a": 0.0, "b": 1.0, "c": 0.0}, {"a": 1.0, "b": 1.0, "d": 0.0})
    assert found is not None
    assert (found[0].value, found[1]) == (0.5, 2)
    assert paired({"a": 1.0}, {"b": 1.0}) is None


def test_acts_are_counted_by_dialogue() -> None:
    names, counts = act_counts([["x", "y", "x"], [], ["y", "z", "y"]])
    assert names == ["y", "x", "z"]
    assert counts == [[1, 2, 0], [2, 0, 1]]
