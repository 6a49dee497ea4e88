"""Read rows from files, a saved dataset or the Hub.

in:  {"input": "What is 2 + 2?", "target": "4"} in test.jsonl, with columns: {question: input, ...}
out: {"id": "test-0", "question": "What is 2 + 2?", "reference_answer": "4"}
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from llm_distill.errors import DataError, nearest
from llm_distill.models.hub import cached_commit
from llm_distill.paths import file_digests, find_resource
from llm_distill.rows import reading as io
from llm_distill.rows import records, shapes
from llm_distill.rows.columns import Row
from llm_distill.rows.unique_ids import UniqueIds
from llm_distill.stage import Columns, Context, RowsOutput, Stage

if TYPE_CHECKING:
    from datasets import Features


class LoadDataset(Stage):
    """Reads a dataset: JSON Lines, JSON, CSV, Parquet, one saved by `save_to_disk`, or the Hub's.

    A directory has one file per split, such as `test.jsonl`, or a saved dataset. Alpaca rows become
    `prompt` and `completion`, ShareGPT rows `messages`; other columns stay. CSV values are text,
    except in columns that have another type here. Every row gets an `id`: its own, or its split and
    its number in the split. A bad record ends the run with its file, line and column.
    """

    stage: Literal["load_dataset"]
    path: str = Field(
        min_length=1, description="a file, a directory, or a dataset's name on the Hub"
    )
    name: str | tuple[str, ...] | None = Field(
        None,
        description="configuration on the Hub or sub-folder of `path`; each of several is a task "
        "of its name, and its ids begin with it",
    )
    split: str = Field("train", description="split, or a slice of it such as train[3:103]")
    revision: str | None = Field(None, description="branch, tag or commit on the Hub")
    columns: dict[str, str] = Field(
        default_factory=dict, description="our column: the dataset's column"
    )
    task: str | None = Field(None, description="the rows' task")
    required: tuple[str, ...] | None = Field(
        None,
        description="columns that may not have a null; by default those in `columns`, and "
        "question, prompt and messages if present",
    )
    format: Literal["auto", "rows", "alpaca", "sharegpt"] = Field(
        "auto", description="the shape of the rows; auto looks at their columns"
    )
    limit: int | None = Field(None, ge=1, description="at most this many rows in all")

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        """From the first row of a local JSON Lines or CSV file; otherwise unknown until the run."""
        file = self._file(self._names()[0])
        if file is None or file.suffix not in (".jsonl", ".csv"):
            return None
        try:
            _, first = next(io.stream(file))
        except (DataError, OSError, StopIteration):
            return None  # the error is raised when the stage runs
        names = shapes.rename(first, self.columns)
        return frozenset({*shapes.shaped_columns(names, self._shape(names)), *self._own_columns()})

    def source_digests(self) -> dict[str, str]:
        digests: dict[str, str] = {}
        for name in self._names():
            local = self._file(name) or self._local(name)
            if local is None:
                commit = cached_commit("dataset", self.path, self.revision)
                return {self.path: commit or self.revision or "main"}
            for place, digest in file_digests(local).items():
                digests[f"{name}/{place}" if name else place] = digest
        return digests

    def hub_datasets(self) -> list[tuple[str, str | None]]:
        is_local = any(self._file(name) or self._local(name) for name in self._names())
        return [] if is_local else [(self.path, self.revision)]

    def run(self, context: Context) -> RowsOutput:
        from datasets import Features

        parts = [self._part(name) for name in self._names()]
        merged: dict[str, Any] = {}
        for part in parts:
            for column, kind in self._features(part).items():
                if merged.setdefault(column, kind) != kind:
                    raise DataError(
                        f"{part.where}: column '{column}' is {kind}, but {merged[column]} in "
                        f"{parts[0].where}"
                    )
        return RowsOutput(self._rows(parts, list(merged), context), Features(merged))

    def _rows(self, parts: list[io.Part], names: list[str], context: Context) -> Iterator[Row]:
        ids = UniqueIds()
        with context.progress("load") as bar:
            for part in parts:
                left = None if self.limit is None else self.limit - len(ids)
                for number, place, raw in islice(part.read(), left):
                    row = self._row(raw, part, number, place)
                    before = ids.add(row["id"])
                    if before is not None:
                        first = _place(parts, before)
                        raise DataError(f"{first} and {place} have the same id '{row['id']}'")
                    yield {name: row.get(name) for name in names}
                    bar.advance()

    def _row(self, raw: Row, part: io.Part, number: int, place: str) -> Row:
        row = shapes.rename(raw, self.columns)
        if part.where.endswith(".csv"):
            row = shapes.typed(row)
        row = shapes.to_shape(row, self._shape(row), place)
        if "task" in self._own_columns():
            row["task"] = self.task or part.name
        own = row.get("id") if "id" in row else f"{self._split_name()}-{number}"
        if own is None or own == "":
            raise DataError(f"{place}: its id is empty")
        row["id"] = f"{part.name}-{own}" if isinstance(self.name, tuple) else str(own)
        shapes.check_row(row, self._required(row), place)
        return row

    def _features(self, part: io.Part) -> Features:
        """The features of the part's rows as this stage gives them."""
        from datasets import Features

        theirs = part.features
        if theirs is None:
            chosen = ((place, row) for _, place, row in islice(part.read(), self.limit))
            theirs = Features.from_arrow_schema(records.column_types(chosen))
        if next(part.read(), None) is None:
            raise DataError(f"{part.where}, split {self.split}: the dataset has no rows")
        shape = None if self.format == "auto" else self.format
        shapes.check_columns(theirs, self.columns, shape, part.where)
        shape = self._shape(shapes.rename(theirs, self.columns))
        ours = shapes.shaped_features(theirs, self.columns, shape, self._own_columns())
        for name in self.required or ():
            if name not in ours:
                raise DataError(
                    f"{part.where}: required: no column '{name}'; {nearest(name, ours)}"
                )
        return ours

    def _part(self, name: str | None) -> io.Part:
        chosen = records.split_and_slice(self.split)
        file, local = self._file(name), self._local(name)
        if file is None and local is None:
            io.check_is_no_file(
                self.path if find_resource(self.path) is None else f"{self.path}/{name}"
            )
            where = f"{self.path} ({name})" if name else self.path
            split, part = chosen or (self.split, slice(None))  # the Hub knows percentages too
            revision = cached_commit("dataset", self.path, self.revision) or self.revision
            return io.of_dataset(io.from_hub(self.path, name, split, revision), where, name, part)
        if chosen is None:
            raise DataError(f"split '{self.split}': expected a name, or a slice like train[3:103]")
        if file is not None:
            if file.suffix not in io.ENDINGS:
                raise DataError(f"{file}: unknown kind of file; {nearest(file.suffix, io.ENDINGS)}")
            return io.of_file(file, name, chosen[1])
        assert local is not None
        if not any((local / mark).is_file() for mark in ("state.json", "dataset_dict.json")):
            there = {path.stem for path in local.iterdir() if path.suffix in io.ENDINGS}
            raise DataError(
                f"{local}: no file for split '{chosen[0]}'; {nearest(chosen[0], there)}"
            )
        try:
            saved = io.from_saved(local, chosen[0])
        except IndexError as error:  # datasets raises it for a saved dataset without a shard
            raise DataError(f"{local}: the dataset has no rows") from error
        return io.of_dataset(saved, str(local), name, chosen[1])

    def _names(self) -> tuple[str | None, ...]:
        return self.name if isinstance(self.name, tuple) else (self.name,)

    def _shape(self, names: Iterable[str]) -> shapes.Shape:
        return shapes.recognise(names) if self.format == "auto" else self.format

    def _own_columns(self) -> tuple[str, ...]:
        named = self.task is not None or isinstance(self.name, tuple)
        return ("id", "task") if named else ("id",)

    def _required(self, row: Row) -> tuple[str, ...]:
        usual = (name for name in ("question", "prompt", "messages") if name in row)
        return (*self.columns, *usual) if self.required is None else self.required

    def _split_name(self) -> str:
        """The start of ids; it includes a slice that is not counted in rows: `train[50%:]`."""
        chosen = records.split_and_slice(self.split)
        return self.split if chosen is None else chosen[0]

    def _local(self, name: str | None) -> Path | None:
        return find_resource(self.path if name is None else f"{self.path}/{name}")

    def _file(self, name: str | None) -> Path | None:
        """The local file to read, if it is one: `path` itself, or the split's in a directory."""
        local = self._local(name)
        if local is None or local.is_file():
            return local
        files = (local / f"{self._split_name()}{ending}" for ending in io.ENDINGS)
        return next((file for file in files if file.is_file()), None)


def _place(parts: list[io.Part], index: int) -> str:
    """Where the row of this index is; read again, since remembering all would take memory."""
    rows = (place for part in parts for _, place, _ in part.read())
    return next(islice(rows, index, None))
