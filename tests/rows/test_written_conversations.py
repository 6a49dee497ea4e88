"""Conversations in other forms: what a form holds comes back as it was, the rest is counted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from datasets import Dataset, Features, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_distill.errors import DataError
from llm_distill.rows.conversation_forms import Form
from llm_distill.rows.conversations import as_ours, from_table
from llm_distill.rows.messages import KEYS, Message, message_type
from llm_distill.rows.shapes import recognise, to_shape
from llm_distill.rows.written_conversations import Found, WrittenConversations

ALL = message_type(KEYS)
TEXT = Value("string")

AWKWARD = [
    "<think>a</think> b",
    "</think>",
    '<tool_call>{"name": "f", "arguments": {}}</tool_call>',
]
"""What readers look for in a text."""

plain = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<"), max_size=12)
texts = plain | st.sampled_from(AWKWARD)
words = plain.map(str.strip).filter(bool)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False) | plain,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(plain, inner, max_size=2),
    max_leaves=4,
)
calls = st.fixed_dictionaries(
    {"name": words, "arguments": st.dictionaries(plain, values, max_size=3)},
    optional={"id": st.just("c1")},
)
schemas = st.none() | st.lists(
    st.fixed_dictionaries(
        {"name": words, "parameters": st.dictionaries(plain, values, max_size=2)}
    ),
    min_size=1,
    max_size=2,
)


def turn(role: str, text: Any = plain, **optional: Any) -> Any:
    return st.fixed_dictionaries({"role": st.just(role), "content": text}, optional=optional)


def any_turn(text: Any) -> Any:
    return turn(
        "assistant",
        text,
        reasoning_content=words,
        tool_calls=st.lists(calls, min_size=1, max_size=2),
        name=words,
        weight=st.sampled_from([0.0, 1.0, 0.5]),
    ) | st.sampled_from(["user", "system", "tool"]).flatmap(
        lambda role: turn(
            role, text, name=words, tool_call_id=words, weight=st.sampled_from([0.0, 1.0])
        )
    )


in_turn = st.builds(
    lambda before, pairs: [*before, *(each for pair in pairs for each in pair)],
    st.lists(turn("system"), max_size=1),
    st.lists(
        st.tuples(turn("user", name=words), turn("assistant", reasoning_content=words)),
        min_size=1,
        max_size=3,
    ),
)


def on_disk(row: dict[str, Any]) -> dict[str, Any]:
    """The row as `load_dataset` gives it, and as it is read back from a table: with all keys."""
    ours = as_ours(row, "here")
    for name, value in ours.items():
        if isinstance(value, list):
            ours[name] = [{**dict.fromkeys(KEYS), **turn} for turn in value]
    return ours


def writer(form: Form, *columns: str, **types: Any) -> WrittenConversations:
    kinds = dict.fromkeys(columns, ALL) | types
    return WrittenConversations(form, Features({"id": TEXT, **kinds}))


def read(written: dict[str, Any], form: Form) -> dict[str, Any]:
    """As from the file that a push writes: through Arrow, in the shape that `auto` finds."""
    shape = recognise(written)
    assert shape == {"openai": "rows", "trl": "rows", "sharegpt": "sharegpt"}.get(
        form, "alpaca_chat"
    )
    return to_shape(written, shape, "back")


def through_arrow(rows: Sequence[dict[str, Any]], types: Features) -> list[dict[str, Any]]:
    return list(Dataset.from_list(list(rows), features=types))


def written_and_read(
    form: Form, row: dict[str, Any], write: WrittenConversations
) -> list[Message] | None:
    """The turns that come back; None if the row is left out."""
    written = write.write(row)
    if written is None:
        return None
    (stored,) = through_arrow([written], write.features)
    again = read(from_table(stored), form)
    assert (again["id"], again["tools"]) == ("r", row["tools"])
    if form == "trl":
        assert again["completion"][-1]["role"] == "assistant"
        return [*again["prompt"], *again["completion"]]
    assert again.keys() == {"id", "tools", "messages"}
    messages: list[Message] = again["messages"]
    return messages


def differences(before: list[Message], after: list[Message], form: Form) -> Counter[str]:
    """What came back otherwise, by what a form says of it."""
    found: Counter[str] = Counter()
    if len(before) > len(after):
        assert (before[0]["role"], before[0]["content"].strip()) == ("system", "")
        found["blank system messages"] += 1
        before = before[1:]
    for one, two in zip(before, after, strict=True):
        changed = {key for key in one.keys() | two.keys() if one.get(key) != two.get(key)}
        if "content" in changed:
            assert one["content"].strip() == two["content"]
            found["white space around texts with thoughts or calls"] += 1
        if "tool_calls" in changed:
            with_ids = json.loads(one["tool_calls"])
            assert [{k: v for k, v in c.items() if k != "id"} for c in with_ids] == json.loads(
                two["tool_calls"]
            )
            found["ids of calls beside a text"] += 1
        if "weight" in changed:
            is_halved = form == "sharegpt" and (one["weight"], two["weight"]) == (0.5, 1.0)
            assert is_halved or "weight" not in two
            found["weights other than 0 and 1" if is_halved else "weights"] += 1
        for key in changed - {"content", "tool_calls", "weight"}:
            assert key not in two
            found[
                {"name": "names of speakers"}.get(key, "ids of the calls that a result is of")
            ] += 1
    return found


@settings(max_examples=80, deadline=None)
@given(st.lists(any_turn(texts), min_size=1, max_size=5) | in_turn, schemas)
@pytest.mark.parametrize("form", ["openai", "sharegpt", "alpaca", "trl"])
def test_what_is_written_comes_back_and_every_difference_is_counted(
    form: Form, turns: list[Message], tools: Any
) -> None:
    row = on_disk({"id": "r", "messages": turns, "tools": tools})
    write = writer(form, "messages", tools=TEXT)
    after = written_and_read(form, row, write)
    if after is None:
        assert [found.count for found in write.left_out.values()] == [1]
        assert not write.lost
        return
    before = from_table(row)["messages"]
    assert differences(before, after, form) == {k: f.count for k, f in write.lost.items()}
    if form in ("openai", "trl"):
        assert after == before


@settings(max_examples=40, deadline=None)
@given(st.lists(any_turn(plain), min_size=1, max_size=5), schemas)
@pytest.mark.parametrize("form", ["openai", "sharegpt"])
def test_any_turns_in_any_order_can_be_written(
    form: Form, turns: list[Message], tools: Any
) -> None:
    row = on_disk({"id": "r", "messages": turns, "tools": tools})
    assert written_and_read(form, row, writer(form, "messages", tools=TEXT)) is not None


@settings(max_examples=40, deadline=None)
@given(in_turn, schemas)
@pytest.mark.parametrize("form", ["alpaca", "trl"])
def test_questions_and_answers_in_turn_can_be_written(
    form: Form, turns: list[Message], tools: Any
) -> None:
    row = on_disk({"id": "r", "messages": turns, "tools": tools})
    assert written_and_read(form, row, writer(form, "messages", tools=TEXT)) is not None


def said(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


TALK = [
    said("system", "Be short."),
    said("user", "Weather in Rome and Oslo?", weight=0.0),
    said("assistant", "", reasoning_content="Two calls.", weight=1.0)
    | {"tool_calls": [{"id": "c1", **call("w", city="Rome")}, call("w", city="Oslo", day=None)]},
    said("tool", "sunny", tool_call_id="c1", name="w"),
    said("tool", "rain"),
    said("assistant", "Once more.", tool_calls=[call("w", city="Rome")]),
    said("tool", "sunny"),
    said("assistant", "Sun and rain.", reasoning_content="Done."),
]


def test_sharegpt_as_trainers_read_it() -> None:
    write = writer("sharegpt", "messages", tools=TEXT)
    row = on_disk({"id": "a", "messages": TALK, "tools": [{"name": "w"}]})
    written = write.write(row)
    assert written is not None
    first = '{"id": "c1", "name": "w", "arguments": {"city": "Rome"}}'
    second = '{"name": "w", "arguments": {"city": "Oslo", "day": null}}'
    again = '{"name": "w", "arguments": {"city": "Rome"}}'
    assert written == {
        "id": "a",
        "conversations": [
            {"from": "human", "value": "Weather in Rome and Oslo?", "train": False},
            {
                "from": "function_call",
                "value": f"<think>\nTwo calls.\n</think>\n\n[{first}, {second}]",
                "train": True,
            },
            {"from": "observation", "value": "sunny", "name": "w", "tool_call_id": "c1"},
            {"from": "observation", "value": "rain"},
            {"from": "gpt", "value": f"Once more.\n<tool_call>\n{again}\n</tool_call>"},
            {"from": "observation", "value": "sunny"},
            {"from": "gpt", "value": "<think>\nDone.\n</think>\n\nSun and rain."},
        ],
        "system": "Be short.",
        "tools": '[{"type": "function", "function": {"name": "w"}}]',
    }
    assert write.warnings() == []


def test_a_system_message_with_more_than_its_text_is_a_turn() -> None:
    named = said("system", "Hi.", name="Ann")
    for turns in ([named, said("user", "x")], [said("system", "a"), said("system", "b")]):
        written = writer("sharegpt", "messages").write(on_disk({"id": "a", "messages": turns}))
        assert written is not None
        assert written["system"] is None
        assert len(written["conversations"]) == 2


def test_what_sharegpt_has_no_place_for() -> None:
    write = writer("sharegpt", "messages")
    talk = [
        said("user", "Go.", weight=0.5),
        said("assistant", "Now.", tool_calls=[{"id": "c1", **call("w")}]),
    ]
    for row_id in ("a", "b"):
        assert write.write(on_disk({"id": row_id, "messages": talk})) is not None
    assert write.lost == {
        "weights other than 0 and 1": Found(2, "a"),
        "ids of calls beside a text": Found(2, "a"),
    }


def test_alpaca_and_what_it_has_no_place_for() -> None:
    write = writer("alpaca", "messages")
    talk = [
        said("system", "Add."),
        said("user", "2 + 2?", name="Ann"),
        said("assistant", "4", weight=0.0),
        said("user", "3 + 3?\n\nIn words."),
        said("assistant", "six", reasoning_content="3 + 3 = 6"),
    ]
    assert write.write(on_disk({"id": "a", "messages": talk})) == {
        "id": "a",
        "instruction": "3 + 3?\n\nIn words.",
        "input": "",
        "output": "<think>\n3 + 3 = 6\n</think>\n\nsix",
        "history": [["2 + 2?", "4"]],
        "system": "Add.",
    }
    no_answer = talk[:2]
    for row_id, turns in (("b", TALK), ("c", no_answer), ("d", no_answer), ("e", None)):
        assert write.write(on_disk({"id": row_id, "messages": turns})) is None
    assert write.lost == {"names of speakers": Found(1, "a"), "weights": Found(1, "a")}
    assert write.warnings() == [
        "alpaca has no place for names of speakers (1 turn, the first in row a), weights (1 turn, "
        "the first in row a)",
        "rows that alpaca cannot hold are left out: calls of tools (1 row, the first in row b), "
        "the last turn is not an answer (2 rows, the first in row c), no messages (1 row, the "
        "first in row e)",
    ]


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([said("user", "a"), said("user", "b"), said("assistant", "c")], "do not alternate"),
        ([said("user", "a"), said("assistant", "b"), said("system", "c")], "after the first turn"),
        ([said("system", "a")], "the last turn is not an answer"),
    ],
)
def test_what_is_no_alpaca(turns: list[Message], reason: str) -> None:
    write = writer("alpaca", "messages")
    assert write.write(on_disk({"id": "a", "messages": turns})) is None
    assert reason in next(iter(write.left_out))


def test_prompt_and_completion_as_text_become_turns_but_in_alpaca() -> None:
    row = {"id": "a", "prompt": "Hi", "completion": "Hello", "score": "1"}
    asked, answered = said("user", "Hi"), said("assistant", "Hello")
    kinds = dict.fromkeys(("prompt", "completion", "score"), TEXT)
    rest = {"id": "a", "score": "1"}
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    wanted: dict[Form, dict[str, Any]] = {
        "openai": {"messages": [asked, answered]},
        "sharegpt": {"conversations": turns, "system": None},
        "alpaca": {"instruction": "Hi", "input": "", "output": "Hello"},
        "trl": {"prompt": [asked], "completion": [answered]},
    }
    for form, columns in wanted.items():
        write = writer(form, **kinds)
        assert write.write(row) == {**rest, **columns}
        assert {*write.features} == {*rest, *columns}
        assert write.write({**row, "completion": None}) is None
        assert write.left_out == {"no completion": Found(1, "a")}


def test_pairs_are_written_for_trl() -> None:
    pair = {"id": "a", "prompt": "Hi", "chosen": "Hello", "rejected": "No"}
    kinds = dict.fromkeys(("prompt", "chosen", "rejected"), TEXT)
    wanted = {
        "id": "a",
        "prompt": [said("user", "Hi")],
        "chosen": [said("assistant", "Hello")],
        "rejected": [said("assistant", "No")],
    }
    write = writer("trl", messages=ALL, label=Value("bool"), **kinds)
    assert write.write({**pair, "messages": None, "label": None}) == wanted
    assert write.warnings() == [
        "columns that are left out, since TRL takes rows with prompt, chosen, rejected and no "
        "other answers: messages, label"
    ]
    turns = writer("trl", "prompt", "chosen", "rejected")
    assert turns.write(on_disk(wanted)) == wanted
    assert turns.write(on_disk({**wanted, "prompt": [said("system", "Hi")]})) is None
    for form in ("openai", "sharegpt", "alpaca"):
        with pytest.raises(DataError, match="chosen and rejected are written with trl"):
            writer(form, **kinds)


def test_the_answers_at_the_end_are_the_completion() -> None:
    write = writer("trl", "messages", prompt=TEXT, completion=TEXT, label=Value("bool"))
    beside = {"prompt": "x", "completion": "y", "label": True}
    talk = [said("user", "a"), said("assistant", "b"), said("user", "c")]
    ends = [said("assistant", "d"), said("assistant", "e")]
    written = write.write(on_disk({"id": "a", "messages": [*talk, *ends]}) | beside)
    assert written == {"id": "a", "label": True, "prompt": talk, "completion": ends}
    assert "prompt, completion" in write.warnings()[0]
    for turns in (talk, ends, [said("system", "s"), *ends]):
        assert write.write(on_disk({"id": "b", "messages": turns}) | beside) is None
    assert write.left_out == {
        "the last turn is not an answer": Found(1, "b"),
        "no question before the answer": Found(2, "b"),
    }


def test_a_text_that_a_reader_takes_for_something_else_is_left_out() -> None:
    write = writer("sharegpt", "messages")
    thought = said("assistant", "x", reasoning_content="They write </think> then.")
    assert write.write(on_disk({"id": "a", "messages": [said("user", "Hi"), thought]})) is None
    assert write.left_out == {"a text that is read as something else": Found(1, "a")}


def test_columns_of_the_rows_own_and_rows_without_conversations() -> None:
    with pytest.raises(DataError, match=r"alpaca writes a column 'input'.*my_input: input"):
        writer("alpaca", "messages", input=TEXT)
    with pytest.raises(DataError, match=r"neither messages nor prompt.*columns: id, question"):
        writer("trl", question=TEXT)
    with pytest.raises(DataError, match="needs a column 'prompt' beside"):
        writer("trl", chosen=TEXT, rejected=TEXT)
