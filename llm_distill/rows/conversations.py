"""Columns that hold conversations, in the forms of other people's data, as columns of ours.

read: {"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}],
       "system": "Add."}
ours: {"messages": [{"role": "system", "content": "Add."}, {"role": "user", "content": "2 + 2?"},
                    {"role": "assistant", "content": "4"}]}
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llm_distill.errors import DataError, quoted
from llm_distill.rows.columns import CONVERSATIONS, Row
from llm_distill.rows.messages import (
    Message,
    is_conversation,
    json_text,
    message_type,
    read_messages,
    read_tools,
    stored,
)

if TYPE_CHECKING:
    from datasets import Features


@dataclass
class Conversations:
    """What the conversations of a dataset hold, found by reading all of it.

    keys: by column, how many messages have each key.
    lost: how many messages have a key with a value that cannot be kept.
    texts: the columns that also hold plain text in some row.
    """

    keys: dict[str, Counter[str]] = field(default_factory=dict)
    lost: Counter[str] = field(default_factory=Counter)
    texts: dict[str, str] = field(default_factory=dict)

    def note(self, row: Mapping[str, Any], place: str) -> None:
        """Raises:
        DataError: a column holds a conversation here and plain text elsewhere.
        """
        for name in CONVERSATIONS:
            value = row.get(name)
            if isinstance(value, str):
                self.texts.setdefault(name, place)
            elif isinstance(value, list):
                found = self.keys.setdefault(name, Counter())
                found.update(key for message in value for key in message)
            if name in self.keys and name in self.texts:
                raise DataError(
                    f"{place}: column '{name}' holds conversations in some rows and plain text in "
                    f"others ({self.texts[name]}); divide them into two files"
                )

    def typed(self, features: Features) -> Features:
        """With the type of each column of conversations."""
        for name, keys in self.keys.items():
            features[name] = message_type(keys)
        return features


def may_hold_conversations(types: Mapping[str, Any], changed: Collection[str]) -> bool:
    """Whether columns of a dataset may be conversations, by their types.

    changed: those of no one type, such as lists of objects with different keys.
    """
    if "messages" in types or "tools" in types:
        return True
    there = [name for name in CONVERSATIONS if name in types]
    return any(name in changed or getattr(types[name], "dtype", "list") == "list" for name in there)


def as_ours(row: Row, place: str, lost: Counter[str] | None = None) -> Row:
    """The row with its conversations in our form, as they are stored, and `tools` as JSON text.

    A pair may repeat its prompt at the start of both answers, or have it there only: it goes into
    `prompt`. Where one of prompt and answers is a conversation, all are.

    Raises:
        DataError: a conversation cannot be read.
    """
    found = dict(row)
    if found.get("tools") is not None:
        tools = read_tools(found["tools"], place)
        found["tools"] = json_text(tools) if tools else None
    if found.get("messages") is not None:
        found["messages"] = read_messages(found["messages"], place, lost)
    parts = [name for name in ("prompt", "completion", "chosen", "rejected") if name in found]
    if any(is_conversation(found[name]) for name in parts):
        for name in parts:
            found[name] = _turns(found[name], name, place, lost)
        if "chosen" in found and "rejected" in found:
            found.update(_pair(found.get("prompt"), found["chosen"], found["rejected"]))
    for column in CONVERSATIONS:
        if isinstance(found.get(column), list):
            found[column] = [stored(message) for message in found[column]]
    return found


def from_table(row: Row) -> Row:
    """A row of an Arrow table, in whose conversations and tools each object has all others' keys.

    Those without a value are taken out; a null that was meant cannot be told from them.
    """
    named = (*CONVERSATIONS, "conversations", "tools")
    return {k: _without_nulls(v) if k in named else v for k, v in row.items()}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if hasattr(value, "tolist"):
        value = value.tolist()
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def from_sharegpt(row: Mapping[str, Any], place: str) -> Row:
    """`conversations`, and a `system` beside it, as `messages`."""
    turns, system = row["conversations"], row.get("system")
    if isinstance(turns, str):
        try:
            turns = json.loads(turns)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place}: 'conversations' is text but not JSON: {error}") from error
    if not isinstance(turns, list) or not turns:
        raise DataError(f"{place}: 'conversations' holds no turns: {quoted(turns)}")
    begins = turns[0].get("from") or turns[0].get("role") if isinstance(turns[0], dict) else None
    if begins == "system" and _system(system):
        raise DataError(
            f"{place}: both 'system' and the first turn are a system message; keep the column "
            "apart with columns: {my_system: system}"
        )
    rest = {name: value for name, value in row.items() if name not in ("conversations", "system")}
    return {**rest, "messages": [*_system(system), *turns]}


def from_alpaca(row: Mapping[str, Any], place: str) -> Row:
    """`instruction`, `input` and `output` after a `history` and a `system`, as `messages`.

    Raises:
        DataError: the history is not a list of pairs of text.
    """
    read = ("instruction", "input", "output", "history", "system")
    turns: list[Message] = list(_system(row.get("system")))
    for pair in row.get("history") or ():
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise DataError(f"{place}: 'history' should be pairs of text, but has {quoted(pair)}")
        turns += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    parts: list[Any] = [row[name] for name in ("instruction", "input") if row.get(name)]
    for part in parts:
        if not isinstance(part, str):
            raise DataError(f"{place}: 'instruction' and 'input' are text, not {quoted(part)}")
    asked = "\n\n".join(parts)
    turns += [
        {"role": "user", "content": asked},
        {"role": "assistant", "content": row.get("output")},
    ]
    rest = {name: value for name, value in row.items() if name not in read}
    return {**rest, "messages": turns}


def _system(text: Any) -> Iterable[Message]:
    return [{"role": "system", "content": text}] if isinstance(text, str) and text.strip() else []


def _turns(value: Any, name: str, place: str, lost: Counter[str] | None) -> list[Message] | None:
    if value is None or (isinstance(value, list) and not value):
        return None if value is None else []
    if isinstance(value, str):
        return [{"role": "user" if name == "prompt" else "assistant", "content": value}]
    return read_messages(value, f"{place}, '{name}'", lost)


def _pair(
    prompt: list[Message] | None, chosen: list[Message] | None, rejected: list[Message] | None
) -> Row:
    if not chosen or not rejected:
        return {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    n_same = 0
    while (
        n_same < min(len(chosen), len(rejected)) - 1
        and chosen[n_same] == rejected[n_same]
        and any(turn["role"] != "assistant" for turn in chosen[n_same:])
    ):
        n_same += 1
    same = chosen[:n_same]
    prompt = prompt or []
    if not same or prompt[-len(same) :] == same:
        whole = prompt
    else:
        # The prompt as text stands again in the turns: they say more of it.
        whole = same if _texts(prompt) <= _texts(same) else [*prompt, *same]
    return {"prompt": whole, "chosen": chosen[n_same:], "rejected": rejected[n_same:]}


def _texts(turns: Iterable[Message]) -> set[str]:
    return {turn["content"].strip() for turn in turns}
