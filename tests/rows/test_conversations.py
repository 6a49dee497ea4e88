"""Rows with conversations, whatever their form, give the columns of ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_distill.errors import DataError
from llm_distill.stages.load_dataset import LoadDataset

Run = Callable[..., Any]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.fixture
def load(tmp_path: Path, run_stage: Run) -> Callable[..., Any]:
    def load(*rows: dict[str, Any], **settings: Any) -> Any:
        path = tmp_path / "train.jsonl"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return run_stage(LoadDataset(stage="load_dataset", path=str(path), **settings))

    return load


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        (
            {"conversations": [{"from": "human", "value": "2 + 2?"}], "system": "Add."},
            {"messages": [{"role": "system", "content": "Add."}, user("2 + 2?")]},
        ),
        ({"conversations": [user("Hi")], "system": " "}, {"messages": [user("Hi")]}),
        (
            {
                "instruction": "And 3 + 3?",
                "input": "In words.",
                "output": "six",
                "history": [["2 + 2?", "four"]],
                "system": "Add.",
            },
            {
                "messages": [
                    {"role": "system", "content": "Add."},
                    user("2 + 2?"),
                    assistant("four"),
                    user("And 3 + 3?\n\nIn words."),
                    assistant("six"),
                ]
            },
        ),
        (
            {"prompt": [user("Hi")], "completion": [assistant("Hello")]},
            {"prompt": [user("Hi")], "completion": [assistant("Hello")]},
        ),
        (
            {"prompt": [user("Hi")], "chosen": "Hello", "rejected": "No"},
            {
                "prompt": [user("Hi")],
                "chosen": [assistant("Hello")],
                "rejected": [assistant("No")],
            },
        ),
        (
            {
                "prompt": "Hi",
                "chosen": [user("Hi"), assistant("Hello")],
                "rejected": [user("Hi"), assistant("No")],
            },
            {
                "prompt": [user("Hi")],
                "chosen": [assistant("Hello")],
                "rejected": [assistant("No")],
            },
        ),
        (
            {
                "chosen": [user("Hi"), assistant("Yes?"), user("2?"), assistant("a")],
                "rejected": [user("Hi"), assistant("Yes?"), user("2?"), assistant("b")],
            },
            {
                "prompt": [user("Hi"), assistant("Yes?"), user("2?")],
                "chosen": [assistant("a")],
                "rejected": [assistant("b")],
            },
        ),
        (
            {"prompt": [user("Hi")], "chosen": [assistant("a")], "rejected": [assistant("b")]},
            {"prompt": [user("Hi")], "chosen": [assistant("a")], "rejected": [assistant("b")]},
        ),
        (
            {"prompt": [user("Hi")], "chosen": [assistant("a")], "rejected": [assistant("a")]},
            {"prompt": [user("Hi")], "chosen": [assistant("a")], "rejected": [assistant("a")]},
        ),
        ({"prompt": "Hi", "completion": "Hello"}, {"prompt": "Hi", "completion": "Hello"}),
    ],
)
def test_each_form(load: Run, given: dict[str, Any], ours: dict[str, Any]) -> None:
    run = load({"id": "a", **given})
    assert run.rows == [{"id": "a", **ours}]
    assert run.warnings == []


def test_calls_and_tools_are_text_that_keeps_every_value(load: Run) -> None:
    def calling(**arguments: Any) -> dict[str, Any]:
        call = {"function": {"name": "f", "arguments": arguments}}
        return {"messages": [user("Go."), {**assistant(""), "tool_calls": [call]}]}

    tools = [{"name": "f", "parameters": {"properties": {"b": {}}}}]
    run = load(calling(a=1), {**calling(b={"c": 0.1}), "tools": tools})
    first, second = (row["messages"][1] for row in run.rows)
    assert json.loads(first["tool_calls"])[0]["function"]["arguments"] == {"a": 1}
    assert json.loads(second["tool_calls"])[0]["function"]["arguments"] == {"b": {"c": 0.1}}
    assert run.rows[0]["tools"] is None
    assert json.loads(run.rows[1]["tools"]) == [{"type": "function", "function": tools[0]}]


def test_what_is_lost_is_said_once_with_its_count(load: Run) -> None:
    noted = {**user("Hi"), "score": 3}
    run = load(*({"messages": [noted, assistant("x")]} for _ in range(3)))
    assert run.warnings == ["keys of messages that are not kept: score (3)"]


def test_a_column_is_text_or_conversations(load: Run) -> None:
    with pytest.raises(DataError, match=r"train.jsonl:2: column 'prompt'"):
        load({"prompt": "Hi", "completion": "x"}, {"prompt": [user("Hi")], "completion": "x"})


def test_a_history_that_is_none_is_named(load: Run) -> None:
    with pytest.raises(DataError, match=r"train.jsonl:1: 'history' should be pairs of text"):
        load({"instruction": "a", "output": "b", "history": ["c"]})


def test_nulls_of_a_table_are_in_no_call_and_no_schema(tmp_path: Path, run_stage: Run) -> None:
    from datasets import Dataset

    def row(name: str, **arguments: Any) -> dict[str, Any]:
        schema = {"type": "object", "properties": {key: {"type": "string"} for key in arguments}}
        calls = [{"function": {"name": name, "arguments": arguments}}]
        return {
            "messages": [user("Go."), {**assistant(""), "tool_calls": calls}],
            "tools": [{"function": {"name": name, "parameters": schema}}],
        }

    path = tmp_path / "train.parquet"
    Dataset.from_list([row("f", city="Oslo"), row("g", day="Monday")]).to_parquet(str(path))
    run = run_stage(LoadDataset(stage="load_dataset", path=str(path)))
    calls = [json.loads(each["messages"][1]["tool_calls"])[0]["function"] for each in run.rows]
    assert [each["arguments"] for each in calls] == [{"city": "Oslo"}, {"day": "Monday"}]
    shown = [json.loads(each["tools"])[0]["function"]["parameters"] for each in run.rows]
    assert [list(each["properties"]) for each in shown] == [["city"], ["day"]]


def test_an_instruction_that_is_not_text_is_named(load: Run) -> None:
    with pytest.raises(DataError, match="'instruction' and 'input' are text"):
        load({"instruction": "a", "input": {"k": 1}, "output": "b", "history": []})


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_folders_may_differ_in_what_their_messages_have(
    tmp_path: Path, run_stage: Run, order: tuple[str, str]
) -> None:
    thinks = {**assistant("x"), "reasoning_content": "why"}
    for name, said in (("a", assistant("x")), ("b", thinks)):
        (tmp_path / name).mkdir()
        text = json.dumps({"messages": [user("Hi"), said]})
        (tmp_path / name / "train.jsonl").write_text(text)
    run = run_stage(LoadDataset(stage="load_dataset", path=str(tmp_path), name=order))
    assert len(run.rows) == 2
