"""Rows from files, saved datasets and the Hub, with errors that say what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_distill.errors import DataError, first_line, nearest
from llm_distill.paths import find_resource, started_elsewhere
from llm_distill.rows import records
from llm_distill.rows.columns import Row
from llm_distill.rows.files import check_format, format_of, lines_of

if TYPE_CHECKING:
    from datasets import Dataset, Features

READERS: dict[str, Callable[[Iterable[bytes], str], Iterator[records.Record]]] = {
    ".jsonl": records.read_jsonl,
    ".ndjson": records.read_jsonl,
    ".json": records.read_json,
    ".csv": records.read_csv,
    ".tsv": records.read_tsv,
}
TEXT_ONLY = (".csv", ".tsv")


@dataclass(frozen=True)
class Part:
    """One configuration's rows as they stand there: (row number in the split, place, row)."""

    where: str
    name: str | None
    read: Callable[[], Iterator[tuple[int, str, Row]]]
    features: Features | None  # None: to be found out by reading
    is_text: bool = False  # every value is text, whatever its column means


def from_saved(directory: Path, split: str) -> Dataset:
    """A dataset (or one of its splits) as `save_to_disk` writes it.

    Raises:
        DataError: it is not a saved dataset, or has no such split.
    """
    from datasets import DatasetDict, load_from_disk

    try:
        loaded = load_from_disk(str(directory))
    except (OSError, ValueError) as error:
        there = sorted(path.name for path in directory.iterdir())[:20]
        raise DataError(
            f"{directory}: no file for split '{split}' and no saved dataset; there: {there}"
        ) from error
    if isinstance(loaded, DatasetDict):
        if split not in loaded:
            raise DataError(f"{directory}: no split '{split}'; {nearest(split, loaded)}")
        return loaded[split]
    return loaded


def from_hub(path: str, name: str | None, split: str, revision: str | None) -> Dataset:
    """A dataset on the Hub, without running any code of its repository.

    Raises:
        DataError: it cannot be had, with the Hub's reason.
    """
    from datasets import load_dataset

    try:
        return load_dataset(path, name, split=split, revision=revision)
    except Exception as error:  # the client raises a dozen kinds; each is the user's to mend
        raise DataError(
            f"dataset '{path}' is not a local file or directory, and the Hub gave: "
            f"{first_line(error)}"
        ) from error


def of_files(files: Sequence[Path], where: str, name: str | None, part: slice) -> Part:
    """The rows of files, one after the other; only Parquet says their types by itself.

    Raises:
        DataError: a file is of an unknown kind, or is not what its name says.
    """
    formats = {check_format(file) for file in files}
    features = None
    if formats == {".parquet"}:
        schemas = [_parquet_features(file) for file in files]
        features = schemas[0] if all(each == schemas[0] for each in schemas) else None
    if len(formats) > 1 and formats & {*TEXT_ONLY}:
        raise DataError(f"{where}: some files are tables of text, others have types: {formats}")

    def rows() -> Iterator[records.Record]:
        for file in files:
            yield from stream(file)

    is_text = formats <= {*TEXT_ONLY}
    return Part(where, name, lambda: records.numbered(rows, part), features, is_text)


def _parquet_features(file: Path) -> Features:
    from datasets import Features
    from pyarrow import ArrowException, parquet, schema

    try:
        theirs = parquet.read_schema(file)
        plain = schema([field.with_type(_plain_type(field.type)) for field in theirs])
        return Features.from_arrow_schema(plain)
    except (ArrowException, OSError) as error:
        raise DataError(f"{file}: not a Parquet file: {first_line(error)}") from error
    except (ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise DataError(f"{file}: a column of a type that cannot be read: {error}") from error


def without_json_types(features: Features) -> tuple[Features, set[str]]:
    """The features with text for columns of `datasets.Json`, and the names of these.

    Its reader rounds long numbers and takes text such as "5" for a number.
    """
    from datasets import Features, Json, Value

    def has_json(kind: Any) -> bool:
        if isinstance(kind, dict):
            return any(map(has_json, kind.values()))
        inner = kind[0] if isinstance(kind, list) else getattr(kind, "feature", None)
        return isinstance(kind, Json) or (inner is not None and has_json(inner))

    found = {name for name, kind in features.items() if has_json(kind)}
    text = dict.fromkeys(found, Value("string"))
    return Features({**features, **text}), found


def of_dataset(rows: Dataset, where: str, name: str | None, part: slice) -> Part:
    """The rows of a dataset, numbered as they are there."""
    numbers = range(len(rows))[part]

    def read() -> Iterator[tuple[int, str, Row]]:
        for number, row in zip(numbers, rows.select(numbers), strict=True):
            yield number, f"{where}, row {number}", row

    return Part(where, name, read, rows.features)


def stream(file: Path) -> Iterator[records.Record]:
    """Rows as they are read, a few at a time.

    Raises:
        DataError: the file is damaged, or of an unknown kind.
    """
    kind = check_format(file)
    if kind != ".parquet":
        with lines_of(file) as lines:
            yield from READERS[kind](lines, str(file))
        return
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(file) as table:
            types = {field.name: field.type for field in table.schema_arrow}
            rows = (row for batch in table.iter_batches(1000) for row in batch.to_pylist())
            for index, row in enumerate(rows):
                yield f"{file}, row {index}", {k: _plain(v, types[k]) for k, v in row.items()}
    except (ArrowException, OSError) as error:
        raise DataError(f"{file} is damaged: {first_line(error)}") from error


def _plain_type(kind: Any) -> Any:
    """The type with lists of {key, value} for maps, which datasets does not have."""
    import pyarrow as pa

    if pa.types.is_map(kind):
        pair = {"key": _plain_type(kind.key_type), "value": _plain_type(kind.item_type)}
        return pa.list_(pa.struct(pair))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_plain_type(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain_type(field.type)) for field in kind])
    return kind


def _plain(value: Any, kind: Any) -> Any:
    import pyarrow as pa

    if value is None or not pa.types.is_nested(kind):
        return value
    if pa.types.is_map(kind):
        pairs = value.items() if isinstance(value, dict) else value
        return [
            {"key": _plain(k, kind.key_type), "value": _plain(v, kind.item_type)} for k, v in pairs
        ]
    if pa.types.is_struct(kind):
        return {field.name: _plain(value[field.name], field.type) for field in kind}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [_plain(item, kind.value_type) for item in value]
    return value


def check_is_no_file(path: str) -> None:
    """Raise a DataError for a path that is not there but looks like a file's, not a Hub name."""
    folder = find_resource(str(Path(path).parent))
    has_folder = folder is not None and str(folder) != "."
    files = [p.name for p in folder.iterdir() if format_of(p)] if folder and not has_folder else []
    is_slip = bool(Path(path).suffix and get_close_matches(path, files, n=1, cutoff=0.8))
    elsewhere = started_elsewhere(path)
    is_in_here = bool(elsewhere) and Path(path).parts[:1] == (Path.cwd().name,)
    is_path = format_of(Path(path)) or path[0] in "./~" or path.count("/") > 1
    if is_in_here or is_slip or has_folder or is_path:
        there = [p.name for p in folder.iterdir()] if folder and folder.is_dir() else []
        hint = f"{elsewhere}{nearest(Path(path).name, there)}"
        raise DataError(f"no file or directory '{path}'; {hint}")
