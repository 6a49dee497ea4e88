"""Grades as judges write them."""

from __future__ import annotations

import pytest

from llm_distill.methods.grades import read_grade


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
