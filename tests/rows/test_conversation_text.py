"""Conversations as one text."""

from __future__ import annotations

import pytest

from llm_distill.errors import DataError
from llm_distill.rows.conversation_text import as_text

TURNS = [
    {"role": "user", "content": " Is it 5? "},
    {"role": "assistant", "content": "", "reasoning_content": "It is not.",
     "tool_calls": '[{"function": {"name": "sum", "arguments": {"of": [2, 2]}}}]'},
    {"role": "tool", "content": "4"},
]  # fmt: skip


def test_each_turn_has_its_speaker_and_thoughts_are_left_out() -> None:
    said = as_text(TURNS, {"user": "Pupil", "assistant": "Tutor"}, "t1")
    call = '{"name": "sum", "arguments": {"of": [2, 2]}}'
    assert said == f"Pupil: Is it 5?\n\nTutor: {call}\n\ntool: 4"


def test_a_text_is_itself_and_nothing_is_nothing() -> None:
    assert as_text("{'a text'}", {}, "t1") == "{'a text'}"
    assert as_text(None, {}, "t1") == ""
    with pytest.raises(DataError, match="t1: a conversation holds no turns"):
        as_text([], {}, "t1")
