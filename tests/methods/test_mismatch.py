"""mismatch: what is read of a turn, and what differs in which order."""

from __future__ import annotations

import json

import pytest

from llm_distill.methods.mismatch import fields_of, mismatches

NAMES = ("evaluation", "action", "state")
EXPERT = {"evaluation": "a", "action": "1", "state": "x"}


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (EXPERT, []),
        ({**EXPERT, "action": 1, "state": " X "}, []),
        ({**EXPERT, "evaluation": "b"}, ["evaluation"]),
        ({**EXPERT, "state": "z", "action": 2}, ["action", "state"]),
        ({"evaluation": "a", "action": "1"}, ["missing"]),
        ({**EXPERT, "state": None}, ["missing"]),
        ({**EXPERT, "state": " "}, ["missing"]),
        ({"action": "2"}, ["missing", "action"]),
        ({"text": "Hello"}, ["missing"]),
    ],
)
def test_what_differs(own: dict[str, object], expected: list[str]) -> None:
    text = f"Here it is: {json.dumps(own)} Good luck!"
    assert mismatches(EXPERT, fields_of(text, NAMES), NAMES) == expected


def test_what_cannot_be_read() -> None:
    for text in ("", "Think again.", '{"action": "1"', "{evaluation: a}"):
        assert fields_of(text, NAMES) is None
    assert mismatches(EXPERT, None, NAMES) == ["unreadable"]
    assert fields_of('{"thought": {}} {"action": 2,}', NAMES) == {
        "evaluation": None,
        "action": "2",
        "state": None,
    }
