"""Skills: one spelling, lists by task, and labels that models give."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_distill.errors import DataError
from llm_distill.methods.skills import (
    MOST_OFF_LIST,
    LabelCounts,
    canonical,
    check_tasks,
    labels_regex,
    read_labels,
    skill_id,
    skill_lists,
    what_is_wrong,
)


@pytest.mark.parametrize(
    ("name", "spelling"),
    [
        ("Solving Equations", "solving_equations"),
        ("solving_equations", "solving_equations"),
        ("  SOLVING - equations. ", "solving_equations"),
        ('"**two‑step** problems"', "two_step_problems"),
        ("__addition__", "addition"),
        ("Pythagoras' Theorem", "pythagoras_theorem"),
        ("l’Hôpital’s rule", "lhôpitals_rule"),
        ("C++ pointers", "c++_pointers"),
        ("C# pointers", "c#_pointers"),
        ("# Addition (+)", "addition"),
        ("f(x) = 2", "f_x_2"),
        ("Straße", "strasse"),
        ("ﬁnite ﬁelds", "finite_fields"),
        ("हिन्दी गिनती", "हिन्दी_गिनती"),
        ("...", ""),
        ("\ud83d", ""),
    ],
)
def test_one_spelling(name: str, spelling: str) -> None:
    assert canonical(name) == spelling


@given(st.text())
def test_a_spelling_is_its_own_and_parts_no_labels_or_ids(name: str) -> None:
    once = canonical(name)
    assert canonical(once) == once
    assert not set(once) & set(",;/<>\n\"' ")


def test_names_that_are_no_skills() -> None:
    assert what_is_wrong("Solving equations") is None
    assert what_is_wrong("x" * 60) is None
    assert "more than 60 characters" in str(what_is_wrong("x" * 61))
    assert "comma" in str(what_is_wrong("addition, subtraction"))
    assert "no letter" in str(what_is_wrong(" - "))


def test_lists_are_by_task() -> None:
    rows = [
        {"id": "1", "task": "algebra", "skill": "Solving Equations"},
        {"id": "2", "task": "physics", "skill": "solving_equations"},
        {"id": "3", "task": "algebra", "skill": "solving-equations"},
        {"id": "4", "task": None, "skill": "units"},
    ]
    lists = skill_lists(rows, "skills")
    assert lists == {
        "algebra": ["solving_equations"], "physics": ["solving_equations"], "": ["units"]
    }  # fmt: skip
    ids = [skill_id(task, skill) for task, skills in lists.items() for skill in skills]
    assert ids == ["algebra/solving_equations", "physics/solving_equations", "units"]
    for nothing in (None, " ", "-"):
        with pytest.raises(DataError, match="row 9 of 'skills' has no skill"):
            skill_lists([{"id": "9", "skill": nothing}], "skills")


def test_a_task_without_a_list_is_named() -> None:
    lists = {"algebra": ["a"], "": ["b"]}
    check_tasks([{"id": "1", "task": "algebra"}, {"id": "2"}], lists, "skills")
    with pytest.raises(DataError, match=r"no skills for task 'algebr' \(row 3\); did you mean 'al"):
        check_tasks([{"id": "3", "task": "algebr"}], lists, "skills")
    with pytest.raises(DataError, match=r"'skills' has no skills for rows without a task \(row 2"):
        check_tasks([{"id": "2"}], {"algebra": ["a"]}, "skills")


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("<skill>a, B b; c</skill> since <reason>…</reason>", ["a", "b_b", "c"]),
        (" <skill>a</skill>\n<skill>b</skill><skill>A</skill>", ["a", "b"]),
        ("<skill>\n1. a\n2. b\n- c\n</skill>", ["a", "b", "c"]),
        ('<skill>["a", "b"]</skill>', ["a", "b"]),
        ("in <skill> tags: <skill>a</skill>", ["a"]),
        ("<skill>2 digits, 3.5 scale</skill>", ["2_digits", "3_5_scale"]),
        ("<skill></skill>", []),
        ("<skill> , ;</skill>", []),
        ("<skill>a, b", None),
        ("a, b", None),
        ("", None),
    ],
)
def test_labels_are_read(text: str, labels: list[str] | None) -> None:
    assert read_labels(text) == labels


def test_labels_are_sorted_by_the_list_and_counted() -> None:
    counts = LabelCounts(most=2)
    skills = ["a", "b", "c"]
    assert counts.sort(["x", "c", "a", "b"], skills, "t") == ["c", "a"]
    assert counts.sort(["x", "y"], skills, "t") == []
    assert counts.sort([], skills, "t") == []
    assert counts.sort(None, skills, "t") == []
    assert counts.figures() == {
        "unreadable": 1,
        "unlabelled": 3,
        "surplus_labels": 1,
        "off_list_labels": 3,
        "off_list": {"x": 2, "y": 1},
    }
    many = LabelCounts(most=1)
    many.sort([f"s{i:02}" for i in range(30)], skills, "t")
    assert list(many.figures()["off_list"]) == [f"s{i:02}" for i in range(MOST_OFF_LIST)]
    assert many.figures()["off_list_labels"] == 30


def test_one_skill_for_nearly_all_questions_is_said() -> None:
    counts = LabelCounts(most=2)
    for _ in range(19):
        counts.sort(["a"], ["a", "b"], "sums")
    assert not list(counts.notes("m"))  # too few to tell
    counts.sort(["b"], ["a", "b"], "sums")
    (note,) = counts.notes("m")
    assert "'m' names 'a' in 19 of 20 questions of 'sums'" in note
    counts.sort(["b", "a"], ["a", "b"], "sums")
    assert list(counts.notes("m"))
    counts.sort(["b"], ["a", "b"], "sums")
    assert not list(counts.notes("m"))  # 20 of 22
    for _ in range(30):
        counts.sort(["only"], ["only"], "dates")
    assert not list(counts.notes("m"))  # there is nothing else to name


def test_the_form_holds_exactly_the_labels_of_the_list() -> None:
    skills = ["a", "b", "c++"]
    form = re.compile(labels_regex(skills, 2))
    for n in range(4):
        for labels in product([*skills, "d", "ccc"], repeat=n):
            text = f"<skill>{', '.join(labels)}</skill>"
            fits = 1 <= n <= 2 and set(labels) <= set(skills)
            assert bool(form.fullmatch(text)) == fits, text
            if fits:
                assert read_labels(text) == list(dict.fromkeys(labels))
