"""Shapes in which instruction data comes, and their rows as ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from llm_distill.errors import DataError, nearest, quoted
from llm_distill.rows.columns import COLUMNS, Row, features

if TYPE_CHECKING:
    from datasets import Features

Shape = Literal["rows", "alpaca", "sharegpt"]

ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "system": "system",
    "tool": "tool",
}
# shape -> (columns that are read, those of them that may be missing, columns that are given)
SHAPES: dict[Shape, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "rows": ((), (), ()),
    "alpaca": (("instruction", "input", "output"), ("input",), ("prompt", "completion")),
    "sharegpt": (("conversations", "system"), ("system",), ("messages",)),
}
TURN = ("from", "value", "role", "content", "weight")
"""The keys of a turn of ShareGPT's `conversations` that are read."""
_KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "int32": (int,),
    "int64": (int,),
    "float32": (int, float),
    "float64": (int, float),
    "bool": (bool,),
}
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


def recognise(columns: Iterable[str]) -> Shape:
    """The shape that a set of column names has."""
    names = set(columns)
    if {"instruction", "output"} <= names:
        return "alpaca"
    return "sharegpt" if "conversations" in names else "rows"


def rename(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """`columns` is {ours: theirs}. A column of theirs that has our name already gives way."""
    kept = {k: v for k, v in row.items() if k not in columns and k not in columns.values()}
    return {**kept, **{ours: row.get(theirs) for ours, theirs in columns.items()}}


def shaped_columns(names: Iterable[str], shape: Shape) -> list[str]:
    """The names of the columns of a row once it has our shape."""
    read, _, given = SHAPES[shape]
    return [*(n for n in names if n not in read and n not in given), *given]


def shaped_features(
    theirs: Features, columns: Mapping[str, str], shape: Shape, added: Iterable[str]
) -> Features:
    """The features of rows that were renamed and shaped, and got the columns `added`."""
    from datasets import Features, List, Value

    renamed = rename(theirs, columns)
    names = shaped_columns(renamed, shape)
    turn = {"role": Value("string"), "content": Value("string")}
    theirs_of_turns = getattr(renamed.get("conversations"), "feature", None)
    if isinstance(theirs_of_turns, dict) and "weight" in theirs_of_turns:
        turn["weight"] = Value("float64")
    kept = {name: renamed.get(name, List(turn)) for name in names}
    known = [*added, *(name for name in names if name in COLUMNS)]
    return features(known, like=Features({"id": Value("string"), **kept}))


def check_columns(
    names: Iterable[str], columns: Mapping[str, str], shape: Shape | None, where: str
) -> None:
    """Raise a DataError if a column that is renamed or that the shape needs is not there.

    `names` are the dataset's own. A shape of None was recognised from them, so it fits.
    """
    there = list(names)
    for ours, theirs in columns.items():
        if theirs not in there:
            hint = nearest(theirs, there).replace("allowed:", "its columns:")
            raise DataError(f"{where}: no column '{theirs}' (for '{ours}'); {hint}")
    read, optional, _ = SHAPES[shape or "rows"]
    renamed = list(rename(dict.fromkeys(there), columns))
    for name in read:
        if name not in renamed and name not in optional:
            hint = nearest(name, renamed).replace("allowed:", "its columns:")
            raise DataError(f"{where}: no column '{name}', which format {shape} needs; {hint}")


def to_shape(row: Mapping[str, Any], shape: Shape, place: str) -> dict[str, Any]:
    """A row of the shape as a row of ours.

    Alpaca: `instruction`, `input`, `output` → `prompt`, `completion`. ShareGPT: `conversations` of
    `{from, value}` or `{role, content}` → `messages` of `{role, content}`, with a turn's `weight`,
    and after a message with what `system` says.

    Raises:
        DataError: a part is missing or is not text, a turn's role is unknown, or there are two
            system messages.
    """
    read, _, _ = SHAPES[shape]
    rest = {name: value for name, value in row.items() if name not in read}
    if shape == "alpaca":
        parts = [_text(row, "instruction", place), row.get("input") and _text(row, "input", place)]
        prompt = "\n\n".join(part for part in parts if part)
        return {**rest, "prompt": prompt, "completion": _text(row, "output", place)}
    if shape == "sharegpt":
        turns = row["conversations"]
        if not isinstance(turns, list) or not turns:
            raise DataError(f"{place}: 'conversations' holds no turns: {quoted(turns)}")
        messages = [_turn(turn, place) for turn in turns]
        if row.get("system"):
            if messages[0]["role"] == "system":
                raise DataError(
                    f"{place}: both 'system' and the first turn are a system message; keep the "
                    "column apart with columns: {my_system: system}"
                )
            messages.insert(0, {"role": "system", "content": _text(row, "system", place)})
        return {**rest, "messages": messages}
    return rest


def keys_not_read(row: Mapping[str, Any], shape: Shape) -> set[str]:
    """The keys of a row's turns that `to_shape` leaves out, where they have a value."""
    turns = row["conversations"] if shape == "sharegpt" else ()
    return {
        name
        for turn in turns
        for name, value in turn.items()
        if name not in TURN and value is not None
    }


def check_row(row: Mapping[str, Any], required: Iterable[str], place: str) -> None:
    """Columns with a meaning of ours have its type, and `required` ones are not null.

    Raises:
        DataError: naming place, column, what is wanted and what is there.
    """
    for name in required:
        if row.get(name) is None:
            raise DataError(f"{place}: column '{name}' is null; every row needs one")
    for name, value in row.items():
        if value is not None and name in COLUMNS:
            kind = COLUMNS[name][0]
            for bad in _misfits(value, kind):
                raise DataError(
                    f"{place}: column '{name}' should be {kind}, but {quoted(bad)} is "
                    f"{type(bad).__name__}; rename it with columns: {{my_{name}: {name}}}"
                )


def as_text(row: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    """Numbers in columns that hold text as they were written: answers are often numbers.

    `columns` is {ours: theirs}, of a row that is not renamed yet.
    """
    ours = {theirs: ours for ours, theirs in columns.items()}
    return {
        name: _spelled(value) if COLUMNS.get(ours.get(name, name), ("",))[0] == "string" else value
        for name, value in row.items()
    }


def _spelled(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return getattr(value, "written", None) or str(value)


def typed(row: Mapping[str, Any]) -> Row:
    """The text of a CSV cell as the type that our column of that name has, where it can be."""
    return {name: _from_text(value, COLUMNS.get(name, ("",))[0]) for name, value in row.items()}


def _from_text(value: Any, kind: str) -> Any:
    if not isinstance(value, str) or kind not in ("int64", "float64", "bool"):
        return value
    if kind == "bool":
        return _TRUTH.get(value.strip().lower(), value)
    try:
        return int(value) if kind == "int64" else float(value)
    except ValueError:
        return value  # check_row names it


def _misfits(value: Any, kind: str) -> list[Any]:
    """What is not of this type: the value, or those items of a list (or an array)."""
    if not kind.startswith("list["):
        # To Python, True is an int.
        is_one = kind == "bool" if isinstance(value, bool) else isinstance(value, _KINDS[kind])
        return [] if is_one else [value]
    items = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(items, list):
        return [value]
    inner = kind.removeprefix("list[").removesuffix("]")
    return [bad for item in items for bad in _misfits(item, inner)]


def _turn(turn: Any, place: str) -> dict[str, Any]:
    if not isinstance(turn, dict):
        raise DataError(f"{place}: a turn of 'conversations' is not an object: {quoted(turn)}")
    is_openai = turn.get("from") is None and turn.get("role") is not None
    said_by, said = ("role", "content") if is_openai else ("from", "value")
    role = ROLES.get(_text(turn, said_by, place))
    if role is None:
        raise DataError(f"{place}: unknown role '{turn[said_by]}'; {nearest(turn[said_by], ROLES)}")
    message: dict[str, Any] = {"role": role, "content": _text(turn, said, place)}
    weight = turn.get("weight")
    if weight is not None:
        if not isinstance(weight, int | float):
            raise DataError(f"{place}: 'weight' should be a number, but is {quoted(weight)}")
        message["weight"] = float(weight)
    return message


def _text(row: Mapping[str, Any], name: str, place: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise DataError(f"{place}: '{name}' should be text, but is {quoted(value)}")
    return value
