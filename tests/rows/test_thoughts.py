"""Reasoning is told from the answer, however its tags stand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_distill.rows.thoughts import split_thoughts


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("<think>a</think> b", "a", "b"),
        ("<think>\na\n\nc\n</think>\n\nb", "a\n\nc", "b"),
        ("a</think>b", "a", "b"),
        ("<think>a", "a", ""),
        ("<think></think>b", None, "b"),
        ("<think>\n\n</think>\n\nb", None, "b"),
        ("<thinking>a</thinking>b", "a", "b"),
        ("<THINK>a</THINK>b", "a", "b"),
        ("<think>a</think>b<think>c</think>d", "a\n\nc", "bd"),
        ("a</think>b<think>c</think>d", "a\n\nc", "bd"),
        ("<think>Is it <ans>9</ans>?</think><ans>2</ans>", "Is it <ans>9</ans>?", "<ans>2</ans>"),
        ("I think so", None, "I think so"),
        ("<reasoning>a</reasoning>b", None, "<reasoning>a</reasoning>b"),
        (" b ", None, " b "),
        ("", None, ""),
    ],
)
def test_thoughts(text: str, reasoning: str | None, answer: str) -> None:
    assert split_thoughts(text) == (reasoning, answer)


@given(st.lists(st.sampled_from(["<think>", "</think>", "<thinking>", "z", " ", "\n"])))
def test_no_tag_is_left_in_the_answer_and_no_letter_lost(parts: list[str]) -> None:
    text = "".join(parts)
    reasoning, answer = split_thoughts(text)
    assert "</think>" not in answer
    assert "<think>" not in answer
    assert ((reasoning or "") + answer).count("z") == text.count("z")
