"""Which turns of a conversation are written anew, in which order, and where that must end."""

from __future__ import annotations

from typing import Any

import pytest

from llm_distill.methods.dialogue import begun


def turns(roles: str) -> list[dict[str, Any]]:
    names = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    return [{"role": names[role], "content": f"{i}"} for i, role in enumerate(roles)]


def played(roles: str, anew: Any, calls: str = "") -> tuple[str, str, bool]:
    """(what each request is shown, by role; all in the end; cut). A new turn is an n, or a c."""
    dialogue = begun(turns(roles), anew)
    shown, n = [], 0

    def short() -> str:
        letters = {"system": "s", "user": "u", "tool": "t"}
        return "".join(letters.get(m["role"], m["content"]) for m in dialogue.said)

    while not dialogue.is_over:
        shown.append(short())
        new: dict[str, Any] = {"role": "assistant", "content": "n"}
        if n < len(calls) and calls[n] == "c":
            new = {**new, "content": "c", "tool_calls": [{}]}
        dialogue.take(new)
        n += 1
    return " ".join(shown), short(), dialogue.is_cut


@pytest.mark.parametrize(
    ("roles", "anew", "calls", "expected"),
    [
        ("ua", "last", "", ("u", "un", False)),
        ("u", "last", "", ("u", "un", False)),
        ("suaua", "last", "", ("su2u", "su2un", False)),
        ("ua", "all", "", ("u", "un", False)),
        ("u", "all", "", ("u", "un", False)),
        ("suaua", "all", "", ("su sunu", "sunun", False)),
        ("uau", "all", "", ("u unu", "unun", False)),
        ("uata", "all", "c", ("u uct", "uctn", False)),
        ("uatta", "all", "c", ("u uctt", "ucttn", False)),
        ("uata", "all", "n", ("u", "un", True)),
        ("uaua", "all", "c", ("u", "uc", True)),
    ],
)
def test_every_turn_sees_the_new_ones_before_it(
    roles: str, anew: str, calls: str, expected: tuple[str, str, bool]
) -> None:
    assert played(roles, anew, calls) == expected
