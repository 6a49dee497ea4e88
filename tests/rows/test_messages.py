"""Conversations of every form as ours, and back from disk as they were."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from datasets import Dataset, Features, Value

from llm_distill.errors import DataError
from llm_distill.rows.messages import (
    KEYS,
    as_objects,
    message_type,
    read_calls,
    read_messages,
    read_reasoning,
    read_tools,
    stored,
)


def call(name: str = "weather", **arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def turn(content: str = "", role: str = "assistant", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        ({"from": "human", "value": "Hi"}, turn("Hi", "user")),
        ({"from": "gpt", "value": "Hi", "weight": 0}, turn("Hi", weight=0.0)),
        ({"from": "observation", "value": "18"}, turn("18", "tool")),
        ({"from": "function_response", "value": "18"}, turn("18", "tool")),
        (
            {"from": "function_call", "value": '{"name": "weather", "arguments": {"a": 1}}'},
            turn(tool_calls=[call(a=1)]),
        ),
        (
            {"from": "function_call", "value": '[{"name": "f", "parameters": {}}, {"name": "g"}]'},
            turn(tool_calls=[call("f"), call("g")]),
        ),
        (
            {"from": "function_call", "value": '<think>\nWhy.\n</think>\n\n{"name": "f"}'},
            turn(tool_calls=[call("f")], reasoning_content="Why."),
        ),
        (
            {"from": "function_call", "value": '{"name": "f", "arguments": {"a": "</think>"}}'},
            turn(tool_calls=[call("f", a="</think>")]),
        ),
        ({"role": "developer", "content": "Be brief."}, turn("Be brief.", "system")),
        (
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c1", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
                ],
            },
            turn(tool_calls=[{"id": "c1", **call(city="Oslo")}]),
        ),
        (
            {"role": "assistant", "content": None, "function_call": {"name": "f"}},
            turn(tool_calls=[call("f")]),
        ),
        (
            {"role": "tool", "tool_call_id": "c1", "name": "weather", "content": "18"},
            turn("18", "tool", tool_call_id="c1", name="weather"),
        ),
        (
            {"role": "assistant", "content": "4", "reasoning": "2 + 2"},
            turn("4", reasoning_content="2 + 2"),
        ),
        (
            {"role": "assistant", "content": "<think>2 + 2</think>\n\n4"},
            turn("4", reasoning_content="2 + 2"),
        ),
        (
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "2 + 2"}]},
                    {"type": "text", "text": "4"},
                ],
            },
            turn("4", reasoning_content="2 + 2"),
        ),
        (turn("What does <think> mean?", "user"), turn("What does <think> mean?", "user")),
        (turn("Models open with <think> first."), turn("Models open with <think> first.")),
        (
            turn("It writes between <think> and </think> tags."),
            turn("It writes between <think> and </think> tags."),
        ),
        (turn("2 + 2</think>4"), turn("4", reasoning_content="2 + 2")),
        ({"role": "assistant", "reasoning": "why"}, turn("", reasoning_content="why")),
        (
            {"from": "gpt", "value": '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'},
            turn(tool_calls=[call("f")]),
        ),
        (
            turn(tool_calls=[{"function": None, "name": "f", "arguments": None, "parameters": {}}]),
            turn(tool_calls=[call("f")]),
        ),
        ({"role": "assistant", "content": " as it is \n"}, turn(" as it is \n")),
        (turn("x", train=False), turn("x", weight=0.0)),
        (turn("x", loss=True), turn("x", weight=1.0)),
    ],
)
def test_each_form_is_read_as_ours_and_ours_stays(
    given: dict[str, Any], ours: dict[str, Any]
) -> None:
    assert read_messages([given], "here") == [ours]
    assert read_messages(json.dumps([given]), "here") == [ours]
    assert read_messages([ours], "here") == [ours]
    assert read_messages([stored(ours)], "here") == [ours]


def test_on_disk_each_call_keeps_its_own_arguments() -> None:
    numbers = {"id": 2**60 + 1, "size": 0.1234567890123456, "n": None}
    first = [turn("a", "user"), turn(tool_calls=[call("f", city="Oslo"), call("g", **numbers)])]
    other = [turn("b", "user"), turn("c", reasoning_content="why", weight=0.5)]
    keys = {key for message in (*first, *other) for key in message}
    features = Features({"messages": message_type(keys)})
    rows = [{"messages": [stored(m) for m in turns]} for turns in (first, other)]
    back = Dataset.from_list(rows, features=features)
    assert [read_messages(row["messages"], "here") for row in back] == [first, other]


def test_plain_conversations_have_the_usual_type() -> None:
    assert str(message_type(["role", "content"])) == (
        "List({'role': Value('string'), 'content': Value('string')})"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"from": "humn", "value": "x"}, "unknown role 'humn'; did you mean 'human'"),
        ({"content": "x"}, "unknown role None"),
        ("Hi", "it is not an object: 'Hi'"),
        ({"role": "user"}, "content should be text, but is None"),
        ({"role": "user", "content": 5}, "content should be text, but is 5"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": "http://x"}]},
            "content of type 'image_url' cannot be kept",
        ),
        ({"from": "function_call", "value": "f(2)"}, "a function_call should be JSON"),
        ({"from": "function_call", "value": "{}"}, "a function_call has no name"),
        (turn("x", tool_calls="[{'name': 'f'}]"), "tool_calls as text should be JSON"),
        (turn("x", tool_calls=[{"id": 1}]), "a call of a tool has no name"),
        (turn("x", weight=-1), "weight should be a number from 0, but is -1"),
        (turn("x", weight=True), "weight should be a number from 0, but is True"),
    ],
)
def test_what_cannot_be_read_is_named(given: Any, message: str) -> None:
    with pytest.raises(DataError) as error:
        read_messages([turn("x", "user"), given], "a.jsonl:3")
    assert str(error.value).startswith(f"a.jsonl:3, turn 2: {message}")


@pytest.mark.parametrize("given", ["[", "[" * 100_000, [], {}, None, 5])
def test_what_is_no_conversation_is_said_briefly(given: Any) -> None:
    with pytest.raises(DataError, match="a conversation") as error:
        read_messages(given, "a.jsonl:3")
    assert len(str(error.value)) < 300


def test_keys_that_cannot_be_kept_are_counted_and_empty_ones_are_not() -> None:
    lost: Counter[str] = Counter()
    more = {"audio": {"id": 1}, "refusal": None, "annotations": [], "score": 0}
    read_messages([turn("a", **more), turn("b", audio={"id": 2})], "here", lost)
    assert lost == {"audio": 2, "score": 1}


def test_arguments_that_are_not_json_stay_as_they_are() -> None:
    (found,) = read_calls({"tool_calls": [{"function": {"name": "f", "arguments": "{oops"}}]})
    assert found["function"]["arguments"] == "{oops"


@pytest.mark.parametrize("calls", ["[", [5], [{"function": 5}], {"name": 5}, 7, [{"name": None}]])
def test_what_is_no_call_is_none(calls: Any) -> None:
    assert read_calls({"tool_calls": calls}) == []


def test_half_a_character_in_a_call_can_be_saved() -> None:
    kept = stored(turn(tool_calls=[call("f", a="\ud83d")]))
    assert json.loads(kept["tool_calls"])[0]["function"]["arguments"] == {"a": "\ufffd"}


def test_thoughts_have_many_fields() -> None:
    for name in ("reasoning_content", "reasoning", "thinking"):
        assert read_reasoning({name: " why "}) == "why"
    assert read_reasoning({"reasoning": [{"type": "summary", "text": "why"}]}) == "why"
    for nothing in ({}, {"reasoning": ""}, {"reasoning": {}}, {"thinking": None}, None):
        assert read_reasoning(nothing) is None


def test_tools_are_schemas_of_functions() -> None:
    bare = {"name": "f", "parameters": {"type": "object"}}
    whole = [{"type": "function", "function": bare}]
    for given in ([bare], whole, json.dumps([bare])):
        assert read_tools(given, "here") == whole
    assert read_tools(None, "here") == read_tools("", "here") == []
    for bad in ("{", {"f": 1}, [{"description": "x"}], [5]):
        with pytest.raises(DataError, match="a.jsonl:3: "):
            read_tools(bad, "a.jsonl:3")


def test_what_is_pushed_has_objects_again() -> None:
    wanted = call("f", city="Oslo", n=2**60)
    features = Features({"messages": message_type(KEYS), "tools": Value("string")})
    turns = [turn("Go.", "user"), turn(tool_calls=[wanted])]
    row = {
        "messages": [{**dict.fromkeys(KEYS), **stored(m)} for m in turns],
        "tools": json.dumps([{"name": "f"}]),
    }
    rows = Dataset.from_list([row], features=features)
    (pushed,) = rows.cast(as_objects(features))
    assert pushed["messages"][1]["tool_calls"] == [wanted]
    assert pushed["tools"] == [{"name": "f"}]
    plain = Features({"messages": message_type(()), "x": Value("string")})
    assert as_objects(plain) == plain
