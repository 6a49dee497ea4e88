"""Which turns of a conversation are written anew, in which order, and where that must end."""

from __future__ import annotations

from typing import Any

import pytest

from llm_distill.methods.dialogue import begun


def call(name: str = "f", **more: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": {}}, **more}


def turns(roles: str) -> list[dict[str, Any]]:
    """An assistant's turn before a tool's calls f, as often as there are results."""
    names = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    found: list[dict[str, Any]] = []
    for i, role in enumerate(roles):
        n_calls = len(roles[i + 1 :]) - len(roles[i + 1 :].lstrip("t")) if role == "a" else 0
        calls = {"tool_calls": [call()] * n_calls} if n_calls else {}
        found.append({"role": names[role], "content": f"{i}", **calls})
    return found


def played(roles: str, anew: Any, calls: str = "") -> tuple[str, str, bool]:
    """(what each request is shown, by role; all in the end; cut).

    calls: what the new turns do, one after another: n for nothing, 1 or 2 for so many calls.
    """
    dialogue = begun(turns(roles), anew)
    shown, n = [], 0

    def short() -> str:
        letters = {"system": "s", "user": "u", "tool": "t"}
        return "".join(letters.get(m["role"], m["content"]) for m in dialogue.said)

    while not dialogue.is_over:
        shown.append(short())
        new: dict[str, Any] = {"role": "assistant", "content": "n"}
        if n < len(calls) and calls[n] in "12":
            new = {**new, "content": "c", "tool_calls": [call()] * int(calls[n])}
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
        ("uata", "all", "1", ("u uct", "uctn", False)),
        ("uatta", "all", "2", ("u uctt", "ucttn", False)),
        ("uatta", "all", "1", ("u", "uc", True)),
        ("uata", "all", "2", ("u", "uc", True)),
        ("uata", "all", "n", ("u", "un", True)),
        ("uaua", "all", "1", ("u", "uc", True)),
    ],
)
def test_every_turn_sees_the_new_ones_before_it(
    roles: str, anew: str, calls: str, expected: tuple[str, str, bool]
) -> None:
    assert played(roles, anew, calls) == expected


def test_results_belong_to_the_new_calls_of_the_same_tools() -> None:
    def given() -> list[dict[str, Any]]:
        asked = {"role": "user", "content": "?"}
        calls = [call("f", id="old1"), call("g", id="old2")]
        results = [{"role": "tool", "content": f"{i}", "tool_call_id": f"old{i}"} for i in (1, 2)]
        return [asked, {"role": "assistant", "content": "", "tool_calls": calls}, *results]

    def after(*calls: dict[str, Any]) -> Any:
        dialogue = begun(given(), "all")
        dialogue.take({"role": "assistant", "content": "", "tool_calls": list(calls)})
        return dialogue

    dialogue = after(call("f", id="new1"), call("g"))
    assert not dialogue.is_cut
    assert [m.get("tool_call_id") for m in dialogue.said[2:]] == ["new1", None]
    assert after(call("g"), call("f")).is_cut
    assert after(call("f")).is_cut
