"""Records out of the lines of a file, each with its place, and the types of their columns.

Nothing here opens a file: lines and records come in as iterables, so memory stays flat.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from llm_distill.errors import DataError, counted, quoted

if TYPE_CHECKING:
    import pyarrow as pa

Record = tuple[str, dict[str, Any]]
"""The place to name in a message, such as `train.jsonl:3`, and the row."""

BATCH = 1000
LARGEST_EXACT = 2**53
"""The largest whole number up to which every one is exact as a float."""
LONGEST_CELL = 2**31 - 1
"""Characters; of its own accord Python's reader takes 131,072."""

OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}
LOOKED_AT = 50
"""Lines of a table by which it is told what stands between its values."""


class WrittenFloat(float):
    """A number of a JSON file that remembers how it was written: `1e3` is not text as `1000.0`."""

    __slots__ = ("written",)
    written: str

    def __new__(cls, text: str) -> WrittenFloat:
        number = super().__new__(cls, text)
        number.written = text
        return number


WrittenFloat.__name__ = "float"  # what messages call it
NUMBERS = (int, float, WrittenFloat)
_WITH_WRITTEN_FLOATS = json.JSONDecoder(parse_float=WrittenFloat)


def _has_floats(row: Any) -> bool:
    return isinstance(row, dict) and any(type(value) is float for value in row.values())


def _as_written(row: Any, text: str) -> Any:
    """The row with `WrittenFloat`s; only where it has a float of its own, since they take time."""
    return _WITH_WRITTEN_FLOATS.decode(text) if _has_floats(row) else row


def split_and_slice(split: str) -> tuple[str, slice] | None:
    """`train[3:103]` → ("train", slice(3, 103)); None where it is not a name with whole numbers.

    Negative and open ends are Python's.
    """
    match = re.fullmatch(r"([^\[\]+]+)(?:\[(-?\d*):(-?\d*)\])?", split)
    if match is None or "-" in match.groups()[1:]:
        return None
    start, end = (int(text) if text else None for text in match.groups()[1:])
    return match.group(1), slice(start, end)


def numbered(
    read: Callable[[], Iterator[Record]], part: slice
) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """(number from 0, place, row) of the records in `part`; counts them all for negative ends."""
    start, stop = part.start or 0, part.stop
    if start < 0 or (stop is not None and stop < 0):
        start, stop, _ = part.indices(sum(1 for _ in read()))
    for number, (place, row) in islice(enumerate(read()), start, stop):
        yield number, place, row


def read_jsonl(lines: Iterable[bytes], where: str) -> Iterator[Record]:
    """One object a line; empty lines are skipped, but count.

    Raises:
        DataError: a line is not UTF-8, not JSON or not an object; it names the line.
    """
    for number, line in enumerate(_decoded(lines, where), 1):
        if line.strip():
            place = f"{where}:{number}"
            try:
                row = _as_written(json.loads(line), line)
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{place}: not JSON: {error.msg} at column {error.colno}; one object a line "
                    "is wanted"
                ) from error
            except (ValueError, RecursionError) as error:  # a number too long; nested too deep
                raise DataError(f"{place}: cannot be read: {error}") from error
            yield place, _object(row, place)


def read_json(lines: Iterable[bytes], where: str) -> Iterator[Record]:
    """A list of objects, one that `{"data": [...]}` wraps, or one object a line.

    A list is held in memory as a whole.

    Raises:
        DataError: it is none of these; it names the line or the row.
    """
    text = "".join(_decoded(lines, where))
    try:
        found = json.loads(text)
        head, rows = _table_in(found)
        if any(map(_has_floats, rows)):
            head, rows = _table_in(_WITH_WRITTEN_FLOATS.decode(text))
    except json.JSONDecodeError as error:
        if not text.lstrip().startswith("["):
            yield from read_jsonl(text.encode().split(b"\n"), where)
            return
        place = f"{where}:{error.lineno}"
        raise DataError(f"{place}: not JSON: {error.msg} at column {error.colno}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: cannot be read: {error}") from error
    for index, row in enumerate(rows):
        place = f"{where}, {head} {index}"
        yield place, _object(row, place)


def _table_in(found: Any) -> tuple[str, list[Any]]:
    """The rows of a JSON value: a list, what `{"data": [...]}` wraps, or one object."""
    if isinstance(found, list):
        return "row", found
    if isinstance(found, dict):
        lists = [
            name
            for name, value in found.items()
            if isinstance(value, list) and value and all(isinstance(row, dict) for row in value)
        ]
        others = [value for value in found.values() if isinstance(value, list | dict)]
        if len(lists) == len(others) == 1:
            return f"{lists[0]}", found[lists[0]]
    return "row", [found]


def read_tsv(lines: Iterable[bytes], where: str) -> Iterator[Record]:
    """As `read_csv`, with tabs between the values."""
    return read_csv(lines, where, "\t")


def read_csv(lines: Iterable[bytes], where: str, delimiter: str = ",") -> Iterator[Record]:
    """Comma-separated values under a header. Every value is text; an empty one is null.

    A table whose header and first rows have no comma but agree on another character between their
    values is read by that: a German Excel writes semicolons.

    Raises:
        DataError: a row does not have as many values as the header, a column's name is missing or
            used twice, or the quotes do not match; it names the line.
    """
    csv.field_size_limit(LONGEST_CELL)
    texts: Iterator[str] = iter(_decoded(lines, where))
    if delimiter == ",":
        first = list(islice(texts, LOOKED_AT))
        delimiter = _delimiter(first, where)
        texts = chain(first, texts)
    reader = csv.reader(texts, strict=True, delimiter=delimiter)
    try:
        header = next(reader, [])
        if "" in header:
            raise DataError(f"{where}:1: column {header.index('') + 1} of the header has no name")
        if len(set(header)) < len(header):
            twice = sorted({name for name in header if header.count(name) > 1})
            raise DataError(f"{where}:1: the header names {', '.join(twice)} more than once")
        for values in reader:
            if not values:
                continue
            place = f"{where}:{reader.line_num}"
            if len(values) != len(header):
                raise DataError(f"{place}: {len(values)} values under {len(header)} column names")
            yield place, {name: value or None for name, value in zip(header, values, strict=True)}
    except csv.Error as error:
        raise DataError(f"{where}:{reader.line_num}: not CSV: {error}") from error


def _delimiter(first: list[str], where: str) -> str:
    """What stands between the values of a table, by its first lines: a comma unless it is clear.

    Raises:
        DataError: another character is in the header and in all of these rows, but not alike.
    """
    header = next(_rows(first, ","), [])
    if len(header) != 1:
        return ","
    for delimiter, name in OTHER_DELIMITERS.items():
        if delimiter not in header[0]:
            continue
        rows = [row for row in _rows(first, delimiter) if row]
        widths = [len(row) for row in rows]
        if len(rows) < 2 or min(widths) < 2:
            continue  # one column, whose name happens to have it
        if len(set(widths)) == 1:
            return delimiter
        number = next(n for n, width in enumerate(widths) if width != widths[0])
        raise DataError(
            f"{where}: it looks as if {name} stood between the values, but row {number} then has "
            f"{counted(widths[number], 'value')} under {counted(widths[0], 'column name')}; put "
            f"values that have one in quotes, or save it with commas"
        )
    return ","


def _rows(first: list[str], delimiter: str) -> Iterator[list[str]]:
    """The rows of the first lines that are whole: the last may go on in a line that is not read."""
    try:
        yield from csv.reader(first, strict=True, delimiter=delimiter)
    except csv.Error:  # if it is in the whole file too, that is said when it is read
        return


def _no_type() -> tuple[type[Exception], ...]:
    """What Arrow raises on a value that fits no type, such as half of a surrogate pair."""
    import pyarrow as pa

    return pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError


def column_types(records: Iterable[Record]) -> tuple[pa.Schema, set[str]]:
    """The type that fits every value of each column: null is any, a whole number is a number.

    Returns:
        The types, and which columns must be written as text (`as_json_text`), since in their type
        Arrow would change what they hold: it gives each object the keys of all others, and rounds
        whole numbers above 2^53 that stand beside numbers with a fraction.

    Raises:
        DataError: a value has another type than those above it; it names row and column.
    """
    import pyarrow as pa

    types: dict[str, pa.DataType] = {}
    changed: set[str] = set()
    large: set[str] = set()
    remaining = iter(records)
    while batch := list(islice(remaining, BATCH)):
        for name in dict.fromkeys(name for _, row in batch for name in row):
            values = [(place, row.get(name)) for place, row in batch]
            if any(type(value) is int and abs(value) > LARGEST_EXACT for _, value in values):
                large.add(name)
            if name in changed:
                continue
            known = types.get(name, pa.null())
            plain = [value for _, value in values]
            is_nested = any(isinstance(value, dict | list) for value in plain)
            try:
                array = pa.array(plain)
                types[name] = _common(known, array.type)
                if is_nested and (
                    _lacks_keys(known, array.type) or _is_changed(array.to_pylist(), plain)
                ):
                    changed.add(name)
            except _no_type():
                if _may_be_text(plain, known, name in large):
                    changed.add(name)
                else:
                    types[name] = _one_by_one(name, known, values)
    changed |= {name for name in large if name in types and pa.types.is_floating(types[name])}
    types |= dict.fromkeys(changed, pa.string())
    # A column with nulls only must have some type on disk.
    schema = pa.schema(
        [(name, pa.string() if pa.types.is_null(kind) else kind) for name, kind in types.items()]
    )
    return schema, changed


def as_json_text(value: Any) -> str | None:
    """A value as it was written, of a column that Arrow would change."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return getattr(value, "written", None) or str(value)
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a character: JSON has an escape for it, text has nothing
        return json.dumps(value)
    return text


def _may_be_text(values: list[Any], known: pa.DataType, is_large: bool) -> bool:
    """Whether what fits no type is one kind of thing: objects and lists, or numbers too large."""
    import pyarrow as pa

    if all(value is None or isinstance(value, dict | list) for value in values):
        return bool(pa.types.is_null(known) or pa.types.is_nested(known))
    are_numbers = all(value is None or type(value) in NUMBERS for value in values)
    return is_large and are_numbers and not pa.types.is_nested(known)


def _lacks_keys(known: pa.DataType, new: pa.DataType) -> bool:
    """Whether two nested types, of batches of one column, have objects of different keys."""
    import pyarrow as pa

    if pa.types.is_struct(known) and pa.types.is_struct(new):
        if {field.name for field in known} != {field.name for field in new}:
            return True
        return any(_lacks_keys(field.type, new.field(field.name).type) for field in known)
    if pa.types.is_list(known) and pa.types.is_list(new):
        return _lacks_keys(known.value_type, new.value_type)
    return False


def _is_changed(there: Any, value: Any) -> bool:
    """Whether Arrow gives back something else."""
    if isinstance(value, dict):
        return not isinstance(there, dict) or (
            there.keys() != value.keys() or any(_is_changed(there[k], value[k]) for k in value)
        )
    if isinstance(value, list):
        return not isinstance(there, list) or (
            len(there) != len(value) or any(map(_is_changed, there, value))
        )
    if isinstance(value, float):
        return not (there == value or (value != value and there != there))
    return bool(there != value)


def _one_by_one(name: str, known: pa.DataType, values: list[tuple[str, Any]]) -> pa.DataType:
    """As for a batch, a value at a time, to find the one that does not fit."""
    import pyarrow as pa

    for place, value in values:
        try:
            known = _common(known, pa.array([value]).type)
        except UnicodeEncodeError as error:
            raise DataError(
                f"{place}: column '{name}' has half of a surrogate pair, which is not text, in "
                f"{quoted(value)}; delete it, or write the whole character"
            ) from error
        except _no_type() as error:
            above = "" if pa.types.is_null(known) else f", but {known} in the rows above"
            raise DataError(
                f"{place}: column '{name}' is {type(value).__name__} ({quoted(value)}){above}"
            ) from error
    return known


def _common(a: pa.DataType, b: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    schemas = [pa.schema([("value", kind)]) for kind in (a, b)]
    return pa.unify_schemas(schemas, promote_options="permissive").field("value").type


def _decoded(lines: Iterable[bytes], where: str) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{where}:{number}: not UTF-8 text: {error.reason}") from error


def _object(row: Any, place: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise DataError(f"{place}: a row is an object, but this is {type(row).__name__}")
    for name in row:
        if not name.isascii() and name != name.encode("utf-8", "replace").decode():
            raise DataError(
                f"{place}: the column name {quoted(name)} has half of a surrogate pair, which is "
                "not text; correct it"
            )
    return row
