"""Shapes in which instruction data comes, and their rows as ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from llm_distill.errors import DataError, nearest, quoted
from llm_distill.rows.columns import COLUMNS, CONVERSATIONS, Row, features
from llm_distill.rows.conversations import as_ours, from_alpaca, from_sharegpt
from llm_distill.rows.messages import is_conversation

if TYPE_CHECKING:
    from datasets import Features

Shape = Literal["rows", "alpaca", "alpaca_chat", "sharegpt"]

# shape -> (columns that are read, those of them that may be missing, columns that are given)
SHAPES: dict[Shape, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "rows": ((), (), ()),
    "alpaca": (("instruction", "input", "output"), ("input",), ("prompt", "completion")),
    "alpaca_chat": (
        ("instruction", "input", "output", "history", "system"),
        ("input", "history", "system"),
        ("messages",),
    ),
    "sharegpt": (("conversations", "system"), ("system",), ("messages",)),
}
_KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "int32": (int,),
    "int64": (int,),
    "float32": (int, float),
    "float64": (int, float),
    "bool": (bool,),
}
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


def recognise(columns: Iterable[str], stated: str = "auto") -> Shape:
    """The shape that a set of column names has. stated: the user's word for it."""
    names = set(columns)
    if stated == "alpaca" or (stated == "auto" and {"instruction", "output"} <= names):
        return "alpaca_chat" if names & {"history", "system"} else "alpaca"
    if stated == "sharegpt" or (stated == "auto" and "conversations" in names):
        return "sharegpt"
    return "rows"


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
    from datasets import Features, Value

    renamed = rename(theirs, columns)
    names = shaped_columns(renamed, shape)
    kept = {name: renamed.get(name, Value("string")) for name in names}
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


def to_shape(
    row: Mapping[str, Any], shape: Shape, place: str, lost: Counter[str] | None = None
) -> dict[str, Any]:
    """A row of the shape as a row of ours.

    Alpaca: `instruction`, `input`, `output` → `prompt`, `completion`; with a `history` or a
    `system` → `messages`. ShareGPT: `conversations` of `{from, value}` → `messages`.

    Args:
        row: As it is in the dataset, renamed.
        shape: Its shape.
        place: What to name in a message.
        lost: Counts keys of messages that cannot be kept.

    Raises:
        DataError: a part is missing or is not text, or a turn's role is unknown.
    """
    read, _, _ = SHAPES[shape]
    rest = {name: value for name, value in row.items() if name not in read}
    if shape == "alpaca":
        parts = [_text(row, "instruction", place), row.get("input") and _text(row, "input", place)]
        prompt = "\n\n".join(part for part in parts if part)
        return {**rest, "prompt": prompt, "completion": _text(row, "output", place)}
    if shape == "alpaca_chat":
        return as_ours(from_alpaca(row, place), place, lost)
    if shape == "sharegpt":
        return as_ours(from_sharegpt(row, place), place, lost)
    return as_ours(rest, place, lost)


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
            if kind == "messages" or (name in CONVERSATIONS and is_conversation(value)):
                continue  # it was read turn by turn
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


def _text(row: Mapping[str, Any], name: str, place: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise DataError(f"{place}: '{name}' should be text, but is {quoted(value)}")
    return value
