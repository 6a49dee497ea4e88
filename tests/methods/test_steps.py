"""Steps of an answer."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_distill.methods.parsing import BLANK_LINE, split_steps

NUMBERED = r"(?<=\.)(?= \d+\. )"
SENTENCES = r"(?<=\.)\s+"


@pytest.mark.parametrize(
    ("text", "separator", "steps"),
    [
        ("3 + 4 = 7.\n\n7 + 2 = 9.", BLANK_LINE, ["3 + 4 = 7.", "7 + 2 = 9."]),
        ("one\nline\n \t\n\n two \n\n", BLANK_LINE, ["one\nline", "two"]),
        ("a single step", BLANK_LINE, ["a single step"]),
        ("", BLANK_LINE, []),
        (" \n\n ", BLANK_LINE, []),
        ("a\n\nb", "(\n)+", ["a", "b"]),  # groups are no steps
        ("a, b; c", "(,)|(;)", ["a", "b", "c"]),
        (
            "1. Start with 3. 2. Add 4. 3. 3 + 4 = 7. <ans>7</ans>",
            NUMBERED,
            ["1. Start with 3.", "2. Add 4.", "3. 3 + 4 = 7. <ans>7</ans>"],
        ),
        ("1. Start. 2. Go on. 3. End.", r"(?= \d+\. )", ["1. Start.", "2. Go on.", "3. End."]),
        ("3 + 4 = 7. 7 + 1.5 = 8.5.", SENTENCES, ["3 + 4 = 7.", "7 + 1.5 = 8.5."]),
    ],
)
def test_steps(text: str, separator: str, steps: list[str]) -> None:
    assert split_steps(text, separator) == steps


@given(st.text("ab.1 \n"), st.sampled_from([BLANK_LINE, NUMBERED, SENTENCES, "b", "(?=b)"]))
def test_nothing_is_lost_but_separators_and_space(text: str, separator: str) -> None:
    steps = split_steps(text, separator)
    assert all(step and step == step.strip() for step in steps)
    kept = re.sub(r"\s", "", re.sub(separator, "", text))
    assert re.sub(r"\s", "", "".join(steps)) == kept


@given(st.lists(st.text("abc \n", min_size=1).filter(lambda t: "\n" not in t and t.strip())))
def test_what_is_joined_by_blank_lines_comes_apart_again(steps: list[str]) -> None:
    assert split_steps("\n\n".join(steps)) == [step.strip() for step in steps]
