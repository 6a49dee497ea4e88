"""Reading tags, blocks, patterns and JSON out of what a model may write."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_distill.methods.parsing import (
    BLANK_LINE,
    read_blocks,
    read_groups,
    read_json,
    read_pattern,
    read_tag,
    split_steps,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3 + 4 = 7. <ans> 7\n</ans> <ans>8</ans>", "7"),
        ("in <ans> tags: <ans>8</ans>", "8"),
        ("</ans> <ans>8</ans>", "8"),
        ("<ans></ans><ans>8</ans>", ""),
        ("<ans>two\nlines</ans>", "two\nlines"),
        ("<ans>8", None),
        ("8</ans>", None),
        ("<answer>8</answer>", None),
        ("", None),
    ],
)
def test_the_first_closed_tag_is_read(text: str, value: str | None) -> None:
    assert read_tag(text, "ans") == value


@given(st.text(), st.text(alphabet=st.characters(blacklist_characters="<")), st.text())
def test_what_is_put_between_tags_is_found(before: str, value: str, after: str) -> None:
    before = before.replace("<ans>", "")
    assert read_tag(f"{before}<ans>{value}</ans>{after}", "ans") == value.strip()


def test_blocks_are_read_in_order_and_only_if_closed_by_their_own_name() -> None:
    text = "<Question_1>a</Question_1> <Question_2>b <Question_3>c\nd</Question_3></Question_9>"
    assert read_blocks(text, r"Question_\d+") == ["a", "c\nd"]
    assert read_blocks(text, r"Question_(\d)|Other") == ["a", "c\nd"]
    assert read_blocks("no block", r"Question_\d+") == []


def test_patterns_give_their_named_groups() -> None:
    pattern = re.compile(r"so (?P<answer>\d+)(?P<unit> \w+)?")
    assert read_pattern("so 7 hats, so 8", pattern) == {"answer": "7", "unit": "hats"}
    assert read_pattern("so 7.", pattern) == {"answer": "7", "unit": None}
    assert read_pattern("none", pattern) == {"answer": None, "unit": None}


def test_json_is_found_in_prose() -> None:
    keys = {"answer": "a", "rest": "b"}
    text = 'Sure {really}: {"x": 1} then {"a": 7, "b": {"c": "é"}} and {"a": 8}'
    assert read_json(text, keys) == {"answer": "7", "rest": '{"c": "é"}'}
    assert read_json('{"a": " x ", "b": null}', keys) == {"answer": "x", "rest": None}
    assert read_json('{"a": ', keys) == {"answer": None, "rest": None}


@given(st.text(alphabet='{}[]"a:1, <>/ns'))
def test_nothing_raises(text: str) -> None:
    read_json(text, {"answer": "a"})
    read_tag(text, "ans")
    read_blocks(text, "a|s")


def test_half_a_surrogate_pair_in_json_becomes_a_question_mark() -> None:
    assert read_json('{"a": "x\\ud83d", "b": ["\\ud83d"]}', {"a": "a", "b": "b"}) == {
        "a": "x?",
        "b": '["?"]',
    }


BOTH = "<r>a</r><d>b</d><q>1?</q>\n<r>c</r> <q>2?</q>"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (BOTH, [("a", "b", "1?"), ("c", None, "2?")]),
        ("<q>1?</q><r>late</r>", [(None, None, "1?")]),
        ("in <q> tags: <r>a</r><q>1?</q>", [("a", None, "1?")]),
        ("<r>a</r><q> </q><r>b</r><q>2?</q>", [("b", None, "2?")]),
        ("<q>is <r>this</r> 2?</q>", [(None, None, "is <r>this</r> 2?")]),
        ("<r>a</r><q>cut off", []),
        ("", []),
    ],
)
def test_groups_end_with_their_tag(text: str, found: list[tuple[str | None, ...]]) -> None:
    groups = read_groups(text, "q", ["r", "d"])
    assert [(group["r"], group["d"], group["q"]) for group in groups] == found


@given(st.text(alphabet="<>/qrd a"))
def test_groups_of_any_text(text: str) -> None:
    assert all(group["q"] for group in read_groups(text, "q", ["r", "d"]))


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
