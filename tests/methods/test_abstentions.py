"""What a teacher answers where no label fits, found in its rows."""

from __future__ import annotations

from typing import Any

from llm_distill.methods.abstentions import Abstentions

NAMES = ["arts", "rail", "other"]


def told(*rows: tuple[Any, Any, Any]) -> str | None:
    found = Abstentions()
    for i, row in enumerate(rows):
        found.add(f"t{i}", *row)
    return found.told("labelled")


def test_a_likeliest_choice_that_is_no_rows_label_is_an_abstention() -> None:
    said = told(("arts", NAMES, [0.9, 0.1, 0]), (None, NAMES, [0.1, 0.2, 0.7]))
    assert said is not None
    assert said.startswith("row t1 of 'labelled' has no label, and 'other' is the likeliest")
    assert "Name the file with the labels (labels)" in said


def test_what_is_none() -> None:
    arts = "arts", NAMES, [0.9, 0.1, 0]
    assert told() is None
    assert told(arts, (None, None, None), (None, NAMES, None), (None, NAMES, [1.0])) is None
    assert told(arts, (None, [], []), (None, NAMES, [None, None, None])) is None
    assert told(arts, (None, NAMES, [0.8, 0.1, 0.1])) is None  # another row's label
    parts = ["arts/1", "arts/2"]  # a text that people did not label, with a teacher's parts
    assert told(("arts", parts, [0.9, 0.1]), (None, parts, [0.1, 0.9])) is None
