"""Rows of a plan: numbers, counts over rounds, and what a teacher's answer specifies."""

from __future__ import annotations

from llm_distill.methods.plan_rows import (
    Wanted,
    numbered,
    planned_so_far,
    quoted,
    specifications,
)
from llm_distill.rows.columns import round_after


def test_rounds_and_counts_go_on() -> None:
    first = numbered([Wanted("s", "sub", 3, "why"), Wanted("s", "add", 0, "why")], [])
    assert [(row["id"], row["round"], row["planned"]) for row in first] == [
        ("1/s/sub", 1, 3), ("1/s/add", 1, 0)
    ]  # fmt: skip
    again = [Wanted("s", "sub", 2, "a", at="0/0"), Wanted("s", "sub", 4, "b", at="1/0")]
    second = numbered(again, first)
    assert [(row["id"], row["n"], row["planned"]) for row in second] == [
        ("2/s/sub/0/0", 2, 9), ("2/s/sub/1/0", 4, 9)
    ]  # fmt: skip
    assert (round_after(second), planned_so_far(second)) == (3, {("s", "sub", ""): 9})
    part = numbered([Wanted("", "sub", 1, None, subskill="eggs", at="eggs")], [])
    assert (part[0]["id"], part[0]["task"]) == ("1/sub/eggs", None)
    assert planned_so_far(part) == {("", "sub", "eggs"): 1}


def test_parts_of_one_name_are_counted_apart() -> None:
    parts = [
        Wanted("s", skill, n, None, "word", at="word") for skill, n in (("add", 3), ("sub", 2))
    ]
    first = numbered(parts, [])
    assert [(row["skill"], row["planned"]) for row in first] == [("add", 3), ("sub", 2)]
    assert [row["planned"] for row in numbered(parts, first)] == [6, 4]


def test_specifications_are_read() -> None:
    said = "<reason>r1</reason><skill>Taking away</skill> and <skill>days, months</skill>"
    assert specifications(said) == [("taking_away", "r1"), ("days", None), ("months", None)]
    after = "<skill>a</skill><skill>b</skill><reason>r1</reason> <skill>c</skill><reason>r2"
    assert specifications(f"{after}</reason><skill>d</skill>") == [
        ("a", "r1"), ("b", "r1"), ("c", "r2"), ("d", None)
    ]  # fmt: skip
    # What the bundled teacher says of a right answer: no skill to strengthen.
    assert specifications("<reason>It is 7.</reason> <judge>correct</judge> <skill></skill>") == []
    assert specifications("no tags") == []
    assert specifications("<skill>unclosed") == []


def test_a_mistake_is_quoted() -> None:
    row = {"question": "9 - 3?", "completion": "It is 7.", "answer": "7", "reference_answer": "6"}
    text = "Question: 9 - 3?\nAnswer given: It is 7.\nRight answer: 6"
    assert quoted(row) == text
    assert quoted({"question": "9 - 3?", "answer": "7"}) == "Question: 9 - 3?\nAnswer given: 7"
