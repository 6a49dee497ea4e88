"""Calls are compared by what they ask for, and checked against their schemas; nothing raises."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_distill.methods.answers import extract_answer
from llm_distill.methods.tool_answers import equal_calls, schema_problem
from llm_distill.rows.tool_calls import split_calls


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


A, B = call("f", a=1), call("g", b="x")


@pytest.mark.parametrize(
    ("answer", "reference", "verdict"),
    [
        ([A], [A], True),
        ([B, A], [A, B], True),
        ([A, A], [A], False),
        ([A], [A, A], False),
        ([call("f", a=1.0)], [A], True),
        ([call("f", a=True)], [A], False),
        ([call("f", a="1")], [A], False),
        ([call("f", a=1, c=None)], [A], True),
        ([call("f", a=1, c=2)], [A], False),
        ([call("g", b=" x ")], [B], True),
        ([call("F", a=1)], [A], False),
        ([{"name": "f", "arguments": '{"a": 1}'}], [A], True),
        ([], [], True),
        (None, [], True),
        ([A], [], False),
        ([], [A], None),
        (None, [A], None),
    ],
)
def test_the_same_calls(answer: Any, reference: Any, verdict: bool | None) -> None:
    given_text = None if answer is None else json.dumps(answer)
    assert equal_calls(given_text, json.dumps(reference)) is verdict


@pytest.mark.parametrize("text", ["{", "5", '"f"', "[5]", '[{"name": 5}]', "[" * 99_999])
def test_what_is_no_call_is_unreadable(text: str) -> None:
    assert equal_calls(text, json.dumps([A])) is None
    assert equal_calls(json.dumps([A]), text) is None


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "f",
            "parameters": {
                "type": "object",
                "properties": {"a": {"type": "integer"}, "u": {"enum": ["C", "F"]}},
                "required": ["a"],
                "additionalProperties": False,
            },
        },
    },
    {"type": "function", "function": {"name": "free"}},
    {"type": "function", "function": {"name": "odd", "parameters": {"type": 5}}},
]


@pytest.mark.parametrize(
    ("calls", "problem"),
    [
        ([call("f", a=1)], None),
        ([call("f", a=1, u="C"), call("free", x=[1])], None),
        ([], None),
        ([call("f", a="1")], "the arguments of 'f': '1' is not of type 'integer'"),
        ([call("f")], "the arguments of 'f': 'a' is a required property"),
        ([call("f", a=1, u="K")], "the arguments of 'f': 'K' is not one of"),
        ([call("f", a=1, z=1)], "the arguments of 'f': Additional properties"),
        ([call("h")], "no tool 'h'"),
        ([{"name": "f", "arguments": "{oops"}], "the arguments of 'f' are not a JSON object"),
        ([call("odd")], "the schema of 'odd' is none"),
    ],
)
def test_calls_are_checked_against_their_schemas(calls: Any, problem: str | None) -> None:
    found = schema_problem(json.dumps(calls), TOOLS)
    assert found is None if problem is None else str(found).startswith(problem)


@pytest.mark.parametrize(
    ("text", "calls", "rest"),
    [
        ('<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>', [A], ""),
        ('So.\n<tool_call>{"name": "f", "arguments": {"a": 1}}', [A], "So."),
        (
            '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>\n'
            '<tool_call>{"name": "g", "arguments": {"b": "x"}}</tool_call>',
            [A, B],
            "",
        ),
        ('[TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}]', [A], ""),
        (' [{"name": "f", "arguments": {"a": 1}}]', [A], ""),
        ('{"name": "f", "parameters": {"a": 1}}', [A], ""),
        ('<|python_tag|>{"name": "f", "parameters": {"a": 1}}', [A], ""),
        ('{"name": "Ann", "age": 3}', [], None),
        ('[{"name": "f", "arguments": {}}, 5]', [], None),
        ("<tool_call>f(1)</tool_call>", [], None),
        ('It is {"name": "f", "arguments": {}}', [], None),
        ("[1, 2]", [], None),
        ("", [], None),
    ],
)
def test_calls_are_found_in_what_models_write(text: str, calls: Any, rest: str | None) -> None:
    assert split_calls(text) == (calls, text if rest is None else rest)
    answer = extract_answer(text, "tool_call")
    if "<tool_call>" in text and not calls:
        assert equal_calls(answer, "[]") is None  # it meant to call something
    else:
        assert (json.loads(answer) if answer else []) == calls


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet='<tool_call>{}[]":,naerguments/', max_size=60))
def test_nothing_raises(text: str) -> None:
    split_calls(text)
    equal_calls(text, text)
    schema_problem(text, TOOLS)
