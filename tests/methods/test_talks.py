"""Dialogues as each speaker sees them."""

from __future__ import annotations

import itertools

import pytest

from llm_distill.methods.talks import Turn, as_chat, as_values, read_act, speaking, times_said


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<act>focus</act> Why?", ("Why?", "focus")),
        ("Why? <act> probing\n</act>", ("Why?", "probing")),
        ("<act>a</act>One.<act>b</act> Two.", ("One. Two.", "a")),
        ("<act></act>Why?", ("Why?", None)),
        ("<act>focus Why?", ("<act>focus Why?", None)),
        ("<acts>x</acts> Why?", ("<acts>x</acts> Why?", None)),
        ("<act>focus</act>", ("", "focus")),
        ("Why?", ("Why?", None)),
    ],
)
def test_an_act_is_taken_out_of_the_text(text: str, found: tuple[str, str | None]) -> None:
    assert read_act(text, "act") == found


def test_without_a_tag_a_text_stays() -> None:
    assert read_act(" <act>focus</act> Why? ", None) == ("<act>focus</act> Why?", None)


def test_who_speaks_next() -> None:
    def three(order: list[str], last: str | None) -> list[str]:
        line = speaking(order, last)
        return [next(line) for _ in range(3)]

    assert three(["a", "b"], None) == ["a", "b", "a"]
    assert three(["a", "b"], "a") == ["b", "a", "b"]
    assert three(["a", "b", "c"], "c") == ["a", "b", "c"]


def test_a_speaker_knows_its_own_acts_only() -> None:
    turns = [Turn("a", "One.", "x", "stop"), Turn("b", "Two.", "y", "stop")]
    assert [turn["act"] for turn in as_values(turns, "a")] == ["x", None]
    assert as_chat(turns, "a", "act") == [
        {"role": "assistant", "content": "<act>x</act> One."},
        {"role": "user", "content": "Two."},
    ]
    assert [m["content"] for m in as_chat(turns, "b", None)] == ["One.", "Two."]


def test_roles_of_a_chat_alternate() -> None:
    turns = [Turn(who, str(i)) for i, who in enumerate("aabcab")]
    for me in "abc":
        roles = [message["role"] for message in as_chat(turns, me, n_speakers=3)]
        assert all(x != y for x, y in itertools.pairwise(roles))
    assert as_chat(turns, "a", n_speakers=3)[0]["content"] == "0\n\n1"


def test_the_same_again_is_of_the_same_speaker() -> None:
    turns = [Turn("a", "Think  again."), Turn("b", "Think again."), Turn("a", "think\nagain.")]
    assert times_said(turns, Turn("a", "Think again.")) == 2
    assert times_said(turns, Turn("b", "Think again")) == 0
