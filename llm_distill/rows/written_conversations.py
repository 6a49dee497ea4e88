"""Rows with their conversations in another form, and a count of what it has no place for.

What is written is read again, as `load_dataset` reads it. A row that comes back as something else
is left out and counted: nothing is changed in silence.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llm_distill.errors import DataError, counted
from llm_distill.rows.columns import Row
from llm_distill.rows.conversation_forms import (
    Form,
    check_prompt,
    held,
    to_alpaca,
    to_prompt_and_completion,
    to_sharegpt,
)
from llm_distill.rows.conversations import as_ours, from_table
from llm_distill.rows.messages import Message, as_objects, message_type, stored
from llm_distill.rows.shapes import Shape, to_shape
from llm_distill.rows.unusable import UnusableRowError

if TYPE_CHECKING:
    from datasets import Features

_ANSWER = ("prompt", "completion")
_PAIR = ("prompt", "chosen", "rejected")
_COLUMNS: dict[Form, tuple[str, ...]] = {
    "openai": ("messages",),
    "sharegpt": ("conversations", "system"),
    "alpaca": ("instruction", "input", "output", "history", "system"),
    "trl": _ANSWER,
}
_TEXT_ONLY = ("instruction", "input", "output")
_SHAPES: dict[tuple[str, ...], Shape] = {
    _COLUMNS["sharegpt"]: "sharegpt",
    _COLUMNS["alpaca"]: "alpaca_chat",
    _TEXT_ONLY: "alpaca",
}
_KINDS_OF_TRL = ("messages", "prompt", "completion", "chosen", "rejected", "label")
"""TRL tells by these columns what a row is, and refuses a combination that it does not know."""


@dataclass
class Found:
    """How often something was found, and the id of the first row that has it."""

    count: int
    first: str


class WrittenConversations:
    """Writes the rows of a dataset in a form.

    Attributes:
        features: The types of what is written.
        lost: In how many turns there is something that the form has no place for, by what it is.
        left_out: How many rows cannot be written, by the reason.
    """

    def __init__(self, form: Form, features: Features) -> None:
        """Raises:
        DataError: the rows hold no conversation that the form can hold, or have a column of their
            own where the form has one.
        """
        self.form = form
        self._source = _source(form, features)
        is_text = all(getattr(features[name], "dtype", "") == "string" for name in self._source)
        self._given: tuple[str, ...] = _COLUMNS[form]
        if self._source == _PAIR:
            self._given = _PAIR
        elif form == "alpaca" and is_text:
            # Without earlier turns Alpaca has three columns, and is read as prompt and completion.
            self._given = _TEXT_ONLY
        self._tools = ("tools",) if "tools" in features else ()
        self.replaced: tuple[str, ...] = ()
        if form == "trl":
            kept = {*self._source, *(("label",) if self._given == _ANSWER else ())}
            there = [name for name in _KINDS_OF_TRL if name in features]
            self.replaced = tuple(name for name in there if name not in kept)
        taken = {*self._source, *self.replaced}
        self._others = [name for name in features if name not in taken]
        if clash := sorted({*self._given} & {*self._others}):
            raise DataError(
                f"conversation_form: {form} writes a column '{clash[0]}', and the rows have one of "
                f"their own; rename it where it is read (columns: {{my_{clash[0]}: {clash[0]}}} "
                "of load_dataset), or choose another form"
            )
        self.features = self._types(features)
        self.lost: dict[str, Found] = {}
        self.left_out: dict[str, Found] = {}

    def write(self, row: Mapping[str, Any]) -> Row | None:
        """The row in the form; None if it is left out."""
        lost: Counter[str] = Counter()
        try:
            written = self._written(row, lost)
        except UnusableRowError as reason:
            _note(self.left_out, str(reason), 1, row)
            return None
        for kind, count in lost.items():
            _note(self.lost, kind, count, row)
        return {name: row[name] for name in self._others} | written

    def warnings(self) -> list[str]:
        """What the user should know of that is not written."""
        said = []
        if self.lost:
            said.append(f"{self.form} has no place for {listed(self.lost, 'turn')}")
        if self.left_out:
            reasons = listed(self.left_out, "row")
            said.append(f"rows that {self.form} cannot hold are left out: {reasons}")
        if self.replaced:
            said.append(
                f"columns that are left out, since TRL takes rows with {', '.join(self._given)} "
                f"and no other answers: {', '.join(self.replaced)}"
            )
        return said

    def published(self) -> Features:
        """The types for others. LLaMA-Factory takes `tools` as text, so it stays text there."""
        return as_objects(self.features) if self.form in ("openai", "trl") else self.features

    def _types(self, features: Features) -> Features:
        from datasets import Features, List, Value

        keys = {key for name in self._source for key in _keys(features[name])}
        text = Value("string")
        turn: dict[str, Any] = {"from": text, "value": text}
        turn |= {"train": Value("bool")} if "weight" in keys else {}
        turn |= {key: text for key in ("name", "tool_call_id") if key in keys}
        special = {"conversations": List(turn), "history": List(List(text))}
        messages = message_type(keys)
        ours = ("messages", *_PAIR, "completion")
        types = {
            name: messages if name in ours else special.get(name, text) for name in self._given
        }
        return Features({**{name: features[name] for name in self._others}, **types})

    def _written(self, row: Mapping[str, Any], lost: Counter[str]) -> Row:
        place = f"row {row['id']}"
        try:
            read = (*self._source, *self._tools)
            ours = as_ours(from_table({name: row[name] for name in read}), place)
        except DataError as error:
            raise UnusableRowError("a conversation that cannot be read") from error
        for name in self._source:
            if ours[name] is None or ours[name] == []:
                raise UnusableRowError(f"no {name}")
        tools = {name: ours[name] for name in self._tools}
        written, meant = self._in_form(ours, lost)
        try:
            again = to_shape({**written, **tools}, _SHAPES.get(self._given, "rows"), place)
        except DataError as error:
            raise UnusableRowError("a text that is read as something else") from error
        if again != {**meant, **tools}:
            raise UnusableRowError("a text that is read as something else")
        return {**written, **tools}

    def _in_form(self, ours: Row, lost: Counter[str]) -> tuple[Row, Row]:
        """(the form's columns, what is read from them as columns of ours)."""
        if self._given == _TEXT_ONLY:
            asked, answered = ours["prompt"], ours["completion"]
            written = {"instruction": asked, "input": "", "output": answered}
            return written, {"prompt": asked, "completion": answered}
        parts = {name: _turns(ours[name], name) for name in self._source}
        if self.form == "trl":
            if self._source == ("messages",):
                parts = to_prompt_and_completion(parts["messages"])
            else:
                check_prompt(parts["prompt"])
            written = {name: _stored(turns) for name, turns in parts.items()}
            return written, written
        turns = held([turn for part in parts.values() for turn in part], self.form, lost)
        meant = {"messages": _stored(turns)}
        if self.form == "openai":
            return meant, meant
        return to_sharegpt(turns) if self.form == "sharegpt" else to_alpaca(turns), meant


def listed(found: Mapping[str, Found], unit: str) -> str:
    """`weights (3 turns, the first in row a), names of speakers (1 turn, the first in row b)`."""
    return ", ".join(
        f"{what} ({counted(each.count, unit)}, the first in row {each.first})"
        for what, each in found.items()
    )


def _source(form: Form, features: Mapping[str, Any]) -> tuple[str, ...]:
    """The columns that the conversation is in."""
    if form == "trl" and set(_PAIR[1:]) <= features.keys():
        missing = [name for name in _PAIR if name not in features]
        if missing:
            raise DataError(
                f"conversation_form: trl needs a column '{missing[0]}' beside chosen and rejected"
            )
        return _PAIR
    if "messages" in features:
        return ("messages",)
    if set(_ANSWER) <= features.keys():
        return _ANSWER
    hint = "chosen and rejected are written with trl; " if "chosen" in features else ""
    raise DataError(
        f"conversation_form: the rows have neither messages nor prompt with completion; {hint}"
        f"their columns: {', '.join(features)}"
    )


def _keys(kind: Any) -> set[str]:
    """The keys of the messages of a column of conversations."""
    inner = getattr(kind, "feature", None)
    return {*inner} if isinstance(inner, dict) else set()


def _turns(value: Any, name: str) -> list[Message]:
    """The turns of a column as they are on disk, or its text as one turn."""
    if isinstance(value, str):
        return [{"role": "user" if name == "prompt" else "assistant", "content": value}]
    return [
        {**turn, "tool_calls": json.loads(turn["tool_calls"])} if "tool_calls" in turn else turn
        for turn in value
    ]


def _stored(turns: Sequence[Message]) -> list[dict[str, Any]]:
    return [stored(turn) for turn in turns]


def _note(found: dict[str, Found], what: str, count: int, row: Mapping[str, Any]) -> None:
    known = found.setdefault(what, Found(0, str(row["id"])))
    known.count += count
