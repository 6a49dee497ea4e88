"""Read rows from files, a saved dataset or the Hub.

in:  {"input": "What is 2 + 2?", "target": "4"} in test.jsonl, with columns: {question: input, ...}
out: {"id": "test-0", "question": "What is 2 + 2?", "reference_answer": "4"}
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from llm_distill.errors import DataError, nearest
from llm_distill.models.hub import cached_commit
from llm_distill.paths import file_digests, find_resource
from llm_distill.rows import reading as io
from llm_distill.rows import records, shapes
from llm_distill.rows.columns import COLUMNS, Row
from llm_distill.rows.conversations import Conversations, from_table, may_hold_conversations
from llm_distill.rows.files import (
    by_split,
    check_split_of_files,
    files_of_glob,
    files_of_split,
    format_of,
    is_glob,
    most_rows_of,
)
from llm_distill.rows.unique_ids import UniqueIds
from llm_distill.stage import Columns, Context, RowsOutput, Stage

if TYPE_CHECKING:
    from datasets import Features


class LoadDataset(Stage):
    """Reads a dataset: JSON Lines, JSON, CSV, TSV, Parquet, a saved one, or the Hub's.

    Text files may be compressed (`.gz`, `.bz2`, `.xz`, `.zst`). `path` is a file, a pattern such as
    `data/*.jsonl`, or a directory, which has a file per split, such as `test.jsonl`, shards or
    folders as on the Hub, or a saved dataset. Alpaca rows become `prompt` and `completion`, those
    with a `history` and rows of ShareGPT `messages`; other columns stay. Values of CSV and TSV are
    text, except in columns that have another type here; numbers in columns of text stay as they are
    written. Every row gets an `id`: its own, or its split and its number in the split. A bad record
    ends the run with its file, line and column.

    Conversations (`messages`, ShareGPT's, or `prompt` with answers as turns) get one form, with
    calls of tools, thoughts and weights; what cannot be kept of them is said. Objects that differ
    in their keys are kept as JSON text.
    """

    version: ClassVar[int] = 2

    stage: Literal["load_dataset"]
    path: str = Field(
        min_length=1, description="a file, a directory, or a dataset's name on the Hub"
    )
    name: str | Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
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

    def most_rows(self, rows: Mapping[str, int | None]) -> int | None:
        """Those of local files, without a look at them."""
        counts = [most_rows_of(files) if (files := self._files(n)) else None for n in self._names()]
        known = [count for count in counts if count is not None]
        if len(known) < len(counts):
            return self.limit
        part = records.split_and_slice(self.split)
        there = sum(len(range(count)[part[1] if part else slice(None)]) for count in known)
        return there if self.limit is None else min(there, self.limit)

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        """From the first row of local text files; otherwise unknown until the run."""
        files = self._files(self._names()[0])
        if not files or format_of(files[0]) not in (".jsonl", ".ndjson", ".csv", ".tsv"):
            return None
        try:
            _, first = next(io.stream(files[0]))
        except (DataError, StopIteration):
            return None  # the error is raised when the stage runs
        names = shapes.rename(first, self.columns)
        return frozenset({*shapes.shaped_columns(names, self._shape(names)), *self._own_columns()})

    def source_digests(self) -> dict[str, str]:
        digests: dict[str, str] = {}
        for name in self._names():
            local = self._local(name)
            files = self._files(name)
            if local is None and not files:
                commit = cached_commit("dataset", self.path, self.revision)
                return {self.path: commit or self.revision or "main"}
            if not files and local is not None:  # a saved dataset, or nothing of this split
                files = sorted(path for path in local.rglob("*") if path.is_file())
            for file in files:
                (digest,) = file_digests(file).values()
                digests[self._place_of(file, name, local)] = digest
        return digests

    def missing(self) -> Iterable[tuple[str, str]]:
        """A split that a directory of this machine does not have, with those that it has."""
        chosen = records.split_and_slice(self.split)
        for name in self._names() if chosen is not None else ():
            local, split = self._local(name), chosen[0] if chosen else ""
            if local is None or not local.is_dir() or self._files(name):
                continue
            there = _saved_splits(local) if _is_saved(local) else list(by_split(local))
            if there and split not in there:
                yield "split", f"{local}: no files of split '{split}'; {nearest(split, there)}"
                return

    def hub_datasets(self) -> list[tuple[str, str | None]]:
        is_local = any(self._files(name) or self._local(name) for name in self._names())
        return [] if is_local else [(self.path, self.revision)]

    def raw_rows(self) -> Iterator[tuple[str, Row]]:
        """Each row as it stands in the data, with its place; nothing is renamed or checked.

        Raises:
            DataError: the data cannot be read.
        """
        for name in self._names():
            part = self._part(name)
            for _, place, row in part.read():
                yield place, row if part.features is None else from_table(row)

    def run(self, context: Context) -> RowsOutput:
        from datasets import Features

        parts = [self._part(name) for name in self._names()]
        merged: dict[str, Any] = {}
        as_json: dict[str | None, set[str]] = {}
        chats = Conversations()
        for part in parts:
            found, as_json[part.name] = self._features(part, chats)
            for column, kind in found.items():
                if merged.setdefault(column, kind) != kind and column not in chats.keys:
                    raise DataError(
                        f"{part.where}: column '{column}' is {kind}, but {merged[column]} in "
                        f"{parts[0].where}"
                    )
        self._say_what_changes(chats, set().union(*as_json.values()), context)
        rows = self._rows(parts, list(merged), as_json, context)
        return RowsOutput(rows, chats.typed(Features(merged)))

    def _say_what_changes(self, chats: Conversations, as_json: set[str], context: Context) -> None:
        if chats.lost:
            keys = ", ".join(f"{name} ({count:,})" for name, count in chats.lost.most_common(20))
            context.warn(f"keys of messages that are not kept: {keys}")
        for name in sorted(as_json):
            context.warn(
                f"column '{name}' is kept as JSON text: its values differ in form, and a table "
                "would give each object the keys of all others, or round large numbers"
            )

    def _rows(
        self,
        parts: list[io.Part],
        names: list[str],
        as_json: Mapping[str | None, set[str]],
        context: Context,
    ) -> Iterator[Row]:
        ids = UniqueIds()
        with context.progress("load") as bar:
            for part in parts:
                left = None if self.limit is None else self.limit - len(ids)
                for number, place, raw in islice(part.read(), left):
                    row = self._row(raw, part, number, place, as_json[part.name])
                    before = ids.add(row["id"])
                    if before is not None:
                        first = _place(parts, before)
                        raise DataError(
                            f"{first} and {place} have the same id '{row['id']}'; ids have to "
                            "differ: correct them, or name another column (columns: {id: …})"
                        )
                    yield {name: row.get(name) for name in names}
                    bar.advance()

    def _row(
        self, raw: Row, part: io.Part, number: int, place: str, as_json: Collection[str]
    ) -> Row:
        raw = raw if part.features is None else from_table(raw)
        row = shapes.rename(shapes.as_text(raw, self.columns), self.columns)
        if part.is_text:
            row = shapes.typed(row)
        row = shapes.to_shape(row, self._shape(row), place)
        for name in as_json:
            row[name] = records.as_json_text(row.get(name))
        if "task" in self._own_columns():
            row["task"] = self.task or part.name
        own = row.get("id") if "id" in row else f"{self._split_name()}-{number}"
        if own is None or own == "":
            raise DataError(
                f"{place}: its id is empty; fill it in, or rename the column in the file: without "
                "one rows are numbered"
            )
        row["id"] = f"{part.name}-{own}" if isinstance(self.name, tuple) else str(own)
        shapes.check_row(row, self._required(row), place)
        return row

    def _features(self, part: io.Part, chats: Conversations) -> tuple[Features, set[str]]:
        """The features of the part's rows as this stage gives them, and which are JSON text.

        chats: takes note of what the conversations of the part hold.
        """
        from datasets import Features

        theirs, changed = part.features, set[str]()
        if theirs is None:
            chosen = (
                (place, shapes.as_text(row, self.columns))
                for _, place, row in islice(part.read(), self.limit)
            )
            schema, changed = records.column_types(chosen)
            theirs = Features.from_arrow_schema(schema)
        else:
            theirs, changed = io.without_json_types(theirs)
        if next(part.read(), None) is None:
            raise DataError(f"{part.where}, split {self.split}: the dataset has no rows")
        shape = self._shape(shapes.rename(theirs, self.columns))
        shapes.check_columns(theirs, self.columns, shape, part.where)
        renamed = {theirs: ours for ours, theirs in self.columns.items()}
        changed = {renamed.get(name, name) for name in changed}
        nested = may_hold_conversations(shapes.rename(theirs, self.columns), changed)
        if nested or shape in ("alpaca_chat", "sharegpt"):
            self._note_conversations(part, shape, chats)
        ours = shapes.shaped_features(theirs, self.columns, shape, self._own_columns())
        for name in self.required or ():
            if name not in ours:
                raise DataError(
                    f"{part.where}: required: no column '{name}'; {nearest(name, ours)}"
                )
        typed = {name for name, (kind, _) in COLUMNS.items() if kind != "string"}
        as_json = changed - {*chats.keys, *typed, "tools"}
        return chats.typed(ours), as_json & ours.keys()

    def _note_conversations(self, part: io.Part, shape: shapes.Shape, chats: Conversations) -> None:
        """Read the part once more: the keys of its messages give their columns a type."""
        for _, place, raw in islice(part.read(), self.limit):
            raw = raw if part.features is None else from_table(raw)
            row = shapes.rename(raw, self.columns)
            chats.note(shapes.to_shape(row, shape, place, chats.lost), place)

    def _part(self, name: str | None) -> io.Part:
        chosen = records.split_and_slice(self.split)
        files, local = self._files(name), self._local(name)
        if not files and local is None:
            if is_glob(self.path):
                files_of_glob(self.path)  # says that there are none
            io.check_is_no_file(
                self.path if find_resource(self.path) is None else f"{self.path}/{name}"
            )
            where = f"{self.path} ({name})" if name else self.path
            split, part = chosen or (self.split, slice(None))  # the Hub knows percentages too
            revision = cached_commit("dataset", self.path, self.revision) or self.revision
            return io.of_dataset(io.from_hub(self.path, name, split, revision), where, name, part)
        if chosen is None:
            raise DataError(f"split '{self.split}': expected a name, or a slice like train[3:103]")
        if files:
            if not self._is_folder():
                check_split_of_files(files, chosen[0])
            where = str(files[0]) if len(files) == 1 else f"{self.path} ({len(files)} files)"
            return io.of_files(files, where, name, chosen[1])
        assert local is not None
        if not _is_saved(local):
            raise DataError(
                f"{local}: no files of split '{chosen[0]}'; {nearest(chosen[0], by_split(local))}"
            )
        try:
            saved = io.from_saved(local, chosen[0])
        except IndexError as error:  # datasets raises it for a saved dataset without a shard
            raise DataError(f"{local}: the dataset has no rows") from error
        return io.of_dataset(saved, str(local), name, chosen[1])

    def _names(self) -> tuple[str | None, ...]:
        return self.name if isinstance(self.name, tuple) else (self.name,)

    def _shape(self, names: Iterable[str]) -> shapes.Shape:
        return shapes.recognise(names, self.format)

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

    def _is_folder(self) -> bool:
        """Whether files are looked for by split, and not named one by one."""
        folder = find_resource(self.path)
        return folder is not None and folder.is_dir()

    def _place_of(self, file: Path, name: str | None, local: Path | None) -> str:
        """A name for a file that stays where the whole folder is moved, and is its own."""
        if local is not None and local.is_file():
            return f"{name}/{file.name}" if name else file.name
        folder = local or find_resource(self.path)
        place = file.relative_to(folder) if folder is not None else file
        return f"{name}/{place.as_posix()}" if name else place.as_posix()

    def _files(self, name: str | None) -> list[Path]:
        """The local files to read: `path` itself, those that it is a pattern of, or the split's."""
        if name is None and is_glob(self.path) and find_resource(self.path) is None:
            try:
                return files_of_glob(self.path)
            except DataError:
                return []
        local = self._local(name)
        if local is not None and local.is_file():
            return [local]
        if local is not None and not _is_saved(local):
            return files_of_split(local, self._split_name())
        folder = find_resource(self.path)
        if local is None and folder is not None and folder.is_dir():
            return files_of_split(folder, self._split_name(), name)
        return []


def _is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` wrote it."""
    return any((folder / mark).is_file() for mark in ("state.json", "dataset_dict.json"))


def _saved_splits(folder: Path) -> list[str]:
    """Of a saved dataset; none where it has no splits, or cannot be read."""
    try:
        found = json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
        return [str(name) for name in found]
    except (OSError, ValueError, LookupError, TypeError):
        return []


def _place(parts: list[io.Part], index: int) -> str:
    """Where the row of this index is; read again, since remembering all would take memory."""
    rows = (place for part in parts for _, place, _ in part.read())
    return next(islice(rows, index, None))
