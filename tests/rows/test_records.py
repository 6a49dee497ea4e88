"""Types over many batches, and slices, against the plain way of doing it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_distill.errors import DataError
from llm_distill.rows.records import (
    BATCH,
    Record,
    as_json_text,
    column_types,
    numbered,
    read_csv,
    read_jsonl,
    split_and_slice,
)

ENDS = st.one_of(st.none(), st.integers(-12, 12))


@given(ENDS, ENDS, st.integers(0, 10))
def test_a_slice_of_a_stream_is_that_of_a_list(start: Any, stop: Any, size: int) -> None:
    records: list[Record] = [(f"row {i}", {"i": i}) for i in range(size)]
    split = f"train[{'' if start is None else start}:{'' if stop is None else stop}]"
    chosen = split_and_slice(split)
    assert chosen is not None
    found = [(number, row["i"]) for number, _, row in numbered(lambda: iter(records), chosen[1])]
    assert found == [(i, i) for i in range(size)[start:stop]]


@pytest.mark.parametrize("split", ["train[:10%]", "a+b", "train[", "train[3]", "train[-:]", ""])
def test_other_splits_are_none_of_ours(split: str) -> None:
    assert split_and_slice(split) is None
    assert split_and_slice("train") == ("train", slice(None, None))


def test_a_type_may_widen_in_a_later_batch_but_not_change() -> None:
    def rows(last: Any) -> Iterator[Record]:
        for index in range(2 * BATCH):
            yield f"row {index}", {"x": None if index < BATCH else index}
        yield "the last", {"x": last}

    assert str(column_types(rows(0.5))[0].field("x").type) == "double"
    with pytest.raises(DataError, match=r"the last: column 'x' is str \('a'\), but int64 in"):
        column_types(rows("a"))


@pytest.mark.parametrize(
    ("values", "kind", "is_text"),
    [
        ([{"a": 1}, {"a": 2}], "struct<a: int64>", False),
        ([{"a": 1}, {"b": 2}], "string", True),
        ([{"a": {"b": 1}}, {"a": {}}], "string", True),
        ([[{"a": 1}, {"b": 2}]], "string", True),
        ([[1, "one"]], "string", True),
        ([[1, 0.5]], "list<item: double>", False),
        ([[1, 2**60 + 1, 0.5]], "string", True),
        ([2**60, 1], "int64", False),
        ([2**60, 0.5], "string", True),
        ([2**70], "string", True),
        ([0.5] * BATCH + [2**60], "string", True),
        ([{"a": 1}] * BATCH + [{"b": 1}], "string", True),
        ([None, [], ["x"]], "list<item: string>", False),
    ],
)
def test_what_arrow_would_change_is_text(values: list[Any], kind: str, is_text: bool) -> None:
    schema, changed = column_types((f"row {i}", {"x": v}) for i, v in enumerate(values))
    assert (str(schema.field("x").type), changed) == (kind, {"x"} if is_text else set())
    if is_text:
        assert [json.loads(str(as_json_text(value))) for value in values] == values


def test_lines_are_read_as_they_are_asked_for() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b'{"a": 1}\r\n'

    assert next(read_jsonl(endless(), "f")) == ("f:1", {"a": 1})


def test_half_a_character_in_json_text_stays_what_it_is() -> None:
    for value in ({"a": "\ud83d"}, {"a": "\U0001f600 é"}):
        text = str(as_json_text(value))
        text.encode()
        assert json.loads(text) == value


def table(text: str) -> list[dict[str, Any]]:
    return [row for _, row in read_csv(text.encode().splitlines(keepends=True), "a.csv")]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('q;a\n"1,5; or 2?";1,5\n2?;\n', [{"q": "1,5; or 2?", "a": "1,5"}, {"q": "2?", "a": None}]),
        ("q\ta\r\n1, or 2?\t1\r\n", [{"q": "1, or 2?", "a": "1"}]),
        ("q|a\n1|2\n", [{"q": "1", "a": "2"}]),
        ("q;x,a\n1;2,3\n", [{"q;x": "1;2", "a": "3"}]),  # commas are between them
        ("this; that\none\na;b\n", [{"this; that": "one"}, {"this; that": "a;b"}]),  # one column
        ("q;a\n" + "1;2\n" * 48 + '"x\ny";3\n' * 2, None),  # a row goes on after the first lines
    ],
)
def test_what_stands_between_the_values_of_a_table(text: str, rows: Any) -> None:
    expected = [{"q": "1", "a": "2"}] * 48 + [{"q": "x\ny", "a": "3"}] * 2
    assert table(text) == (expected if rows is None else rows)


def test_semicolons_that_do_not_agree_are_refused() -> None:
    with pytest.raises(DataError, match=r"a.csv: it looks as if semicolons .* row 2 .* 3 values"):
        table("q;a\n1;2\n1; or 2?;3\n")
