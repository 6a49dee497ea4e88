"""Grades as judges write them."""

from __future__ import annotations

import pytest

from llm_distill.methods.grades import of_two, read_grade, read_winner


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ("Fine. <grade>8</grade>", 8.0),
        ("<grade> **7.5** </grade>", 7.5),
        ("<grade>8/10</grade>", 8.0),
        ("<grade>4/5</grade>", None),  # of another scale
        ("He wrote <grade>2</grade>, I say <grade>9.</grade>", 9.0),
        ("<think><grade>3</grade></think><grade>6</grade>", 6.0),
        ("10", 10.0),
        ("<grade>11</grade>", None),
        ("<grade>0</grade>", None),
        ("<grade>-3</grade>", None),
        ("<grade>eight</grade>", None),
        ("<grade></grade>", None),
        ("I would say 8.", None),
        ("8 or 9", None),
        ("", None),
    ],
)
def test_grades(text: str, grade: float | None) -> None:
    assert read_grade(text, 1, 10) == grade


def test_an_open_tag_counts_if_the_judge_ended() -> None:
    assert read_grade("So <grade>8", 1, 10) is None
    assert read_grade("So <grade>8", 1, 10, ended=True) == 8.0


@pytest.mark.parametrize(
    ("text", "winner"),
    [
        ("B errs. <winner>A</winner>", "a"),
        ("<winner> **b**. </winner>", "b"),
        ("<winner>Answer A</winner>", "a"),
        ("I write <winner>A</winner> or <winner>B</winner>: <winner>Tie</winner>", "tie"),
        ("<think><winner>A</winner></think><winner>B</winner>", "b"),
        ("B", "b"),
        ("<winner>A and B</winner>", None),
        ("<winner>both</winner>", None),
        ("<winner></winner>", None),
        ("A is better.", None),
        ("A good answer", None),
        ("<winner>A", None),
        ("", None),
    ],
)
def test_winners(text: str, winner: str | None) -> None:
    assert read_winner(text) == winner


def test_a_verdict_that_changes_with_the_places_is_a_tie() -> None:
    """The second was given with the places swapped, so `b` in it is the first answer."""
    said = {(a, b): of_two(a, b) for a in ("a", "b", "tie") for b in ("a", "b", "tie")}  # type: ignore[arg-type]
    assert {pair for pair, winner in said.items() if winner != "tie"} == {("a", "b"), ("b", "a")}
    assert (said["a", "b"], said["b", "a"]) == ("a", "b")
