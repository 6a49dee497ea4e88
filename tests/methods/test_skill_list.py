"""The list of skills as text: written, read, and what is said of a wrong one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_distill.errors import DataError
from llm_distill.methods.skill_list import FORM, read_skill_list, write_skill_list
from llm_distill.methods.skills import canonical

NAMES = st.text(min_size=1, max_size=20).map(canonical).filter(bool)
LISTS = st.lists(NAMES, min_size=1, max_size=5, unique=True)
TASKS = st.text(st.characters(codec="utf-8"), max_size=10).filter(str.isprintable)


@given(st.dictionaries(TASKS, LISTS, min_size=1, max_size=4))
def test_what_is_written_is_read(lists: dict[str, list[str]]) -> None:
    assert read_skill_list(write_skill_list(lists), "x") == lists


def test_names_that_yaml_takes_for_something_else_are_quoted() -> None:
    lists = {"no": ["yes", "12", "null", "1e3"]}
    assert read_skill_list(write_skill_list(lists), "x") == lists


def test_any_spelling_is_read_and_a_list_alone_is_of_rows_without_a_task() -> None:
    text = "sums: [Adding Up, taking-away]\ndates:\n  - leap years\n"
    assert read_skill_list(text, "x") == {
        "sums": ["adding_up", "taking_away"], "dates": ["leap_years"]
    }  # fmt: skip
    assert read_skill_list("- Adding up\n", "x") == {"": ["adding_up"]}
    assert write_skill_list({"": ["a", "b"]}).endswith("\n- a\n- b\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "s.yaml: it is empty; expected a mapping"),
        ("# nothing\n", "s.yaml: it is empty"),
        ("a: [b\n", "s.yaml:2: not YAML: "),
        ("a: \x00", "s.yaml: not YAML: "),
        ("just words", f"s.yaml:1: {FORM}"),
        ("{}", f"s.yaml:1: {FORM}"),
        ("a: [b]\nc: d\n", f"s.yaml:2: {FORM}"),
        ("a:\n  b: [c]\n", f"s.yaml:2: {FORM}"),
        ("a: []\n", "s.yaml:1: task 'a' has no skills"),
        ("[]\n", "s.yaml:1: the list has no skills"),
        ("a:\n- [b]\n", "s.yaml:2: a skill is a short name"),
        ("a:\n- b: c\n", "s.yaml:2: a skill is a short name"),
        ("a:\n- 12\n", "s.yaml:2: '12' is read as int; put quotes"),
        ("a:\n- no\n", "s.yaml:2: 'no' is read as bool; put quotes"),
        ("a:\n-\n", "s.yaml:2: '' is read as null; put quotes around it, or leave it out"),
        ("a:\n- '-'\n", "s.yaml:2: '-' has no letter or digit"),
        ("a:\n- b, c\n", "s.yaml:2: 'b, c' has a comma"),
        (f"a:\n- b\n- {'x' * 61}\n", "has more than 60 characters"),
        ("a:\n- Adding up\n- adding_up\n", "s.yaml:3: 'adding_up' is already in line 2"),
        ("a: [b]\na: [c]\n", "s.yaml:2: task 'a' is given twice"),
    ],
)
def test_a_wrong_list_is_named_with_its_line(text: str, told: str) -> None:
    with pytest.raises(DataError) as caught:
        read_skill_list(text, "s.yaml")
    assert told in str(caught.value)
    assert str(caught.value).count("\n") == 0


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(DataError) as caught:
        read_skill_list("a:\n- b\n- B\n- c, d\ne: f\n", "s.yaml")
    assert [line.split(": ")[0] for line in str(caught.value).split("\n")] == [
        "s.yaml:5", "s.yaml:3", "s.yaml:4"
    ]  # fmt: skip
