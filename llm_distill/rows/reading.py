"""Rows out of files, saved datasets and the Hub, with errors that say what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llm_distill.errors import DataError, nearest
from llm_distill.paths import find_resource
from llm_distill.rows import records
from llm_distill.rows.columns import Row

if TYPE_CHECKING:
    from datasets import Dataset, Features

READERS: dict[str, Callable[[Iterable[bytes], str], Iterator[records.Record]]] = {
    ".jsonl": records.read_jsonl,
    ".json": records.read_json,
    ".csv": records.read_csv,
}
ENDINGS = (*READERS, ".parquet")


@dataclass(frozen=True)
class Part:
    """One configuration's rows as they stand there: (row number in the split, place, row)."""

    where: str
    name: str | None
    read: Callable[[], Iterator[tuple[int, str, Row]]]
    features: Features | None  # None: to be found out by reading


def from_saved(directory: Path, split: str) -> Dataset:
    """A dataset (or one of its splits) as `save_to_disk` writes it.

    Raises:
        DataError: it is not one, or has no such split.
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
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"dataset '{path}' is not a local file or directory, and the Hub gave: {reason}"
        ) from error


def of_file(file: Path, name: str | None, part: slice) -> Part:
    """The rows of a file; only Parquet says their types by itself.

    Raises:
        DataError: it is called Parquet and is not.
    """
    from datasets import Features

    features = None
    if file.suffix == ".parquet":
        from pyarrow import ArrowException, parquet

        try:
            features = Features.from_arrow_schema(parquet.read_schema(file))
        except (ArrowException, OSError) as error:
            raise DataError(f"{file}: not a Parquet file: {error}") from error
    return Part(str(file), name, lambda: records.numbered(lambda: stream(file), part), features)


def of_dataset(rows: Dataset, where: str, name: str | None, part: slice) -> Part:
    """The rows of a dataset, numbered as they are there."""
    numbers = range(len(rows))[part]

    def read() -> Iterator[tuple[int, str, Row]]:
        for number, row in zip(numbers, rows.select(numbers), strict=True):
            yield number, f"{where}, row {number}", row

    return Part(where, name, read, rows.features)


def stream(file: Path) -> Iterator[records.Record]:
    """Rows as they are read, a few at a time."""
    if file.suffix == ".parquet":
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        try:
            with ParquetFile(file) as table:
                rows = (row for batch in table.iter_batches(1000) for row in batch.to_pylist())
                yield from ((f"{file}, row {index}", row) for index, row in enumerate(rows))
        except (ArrowException, OSError) as error:
            raise DataError(f"{file} is damaged: {error}") from error
    else:
        with file.open("rb") as lines:
            yield from READERS[file.suffix](lines, str(file))


def check_is_no_file(path: str) -> None:
    """Raise a DataError for a path that is not there but looks like a file's, not a Hub name."""
    folder = find_resource(str(Path(path).parent))
    has_folder = folder is not None and str(folder) != "."
    if has_folder or Path(path).suffix in ENDINGS or path[0] in "./~" or path.count("/") > 1:
        there = [p.name for p in folder.iterdir()] if folder and folder.is_dir() else []
        raise DataError(f"no file or directory '{path}'; {nearest(Path(path).name, there)}")
