"""Rows → a dataset on disk, streamed: memory does not grow with the number of rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_distill.errors import DataError
from llm_distill.unique_ids import UniqueIds

if TYPE_CHECKING:
    from llm_distill.stage import RowsOutput

UNFIT = (TypeError, ValueError, KeyError, OverflowError)


def write_rows(output: RowsOutput, directory: Path) -> int:
    """Write the rows to `directory` as `Dataset.load_from_disk` reads them; returns how many.

    Raises:
        DataError: a row lacks an id, repeats one, or has a value of another type than declared.
    """
    from datasets import Dataset
    from datasets.arrow_writer import ArrowWriter

    directory.mkdir(parents=True)
    partial = directory.parent / "rows.arrow"
    seen = UniqueIds()
    count, last = 0, None
    with ArrowWriter(features=output.features, path=str(partial)) as writer:
        for row in output.rows:
            _check_id(row, seen, count)
            try:
                example = output.features.encode_example(row)
            except UNFIT as error:
                raise DataError(f"row {row['id']}: {error}") from error
            count, last = count + 1, row["id"]
            _write(writer.write, f"a row at or before {last}", example)
        _write(writer.finalize, f"a row at or before {last}")
    rows = Dataset.from_file(str(partial)) if count else _empty(output.features)
    rows.save_to_disk(str(directory))
    partial.unlink(missing_ok=True)
    return count


def _write(write: Callable[..., Any], where: str, *values: Any) -> None:
    """Rows are written many at a time, so that which of them does not fit is not known."""
    try:
        write(*values)
    except UNFIT as error:
        raise DataError(f"{where}: {error}") from error


def _empty(features: Any) -> Any:
    from datasets import Dataset

    return Dataset.from_dict({name: [] for name in features}, features=features)


def _check_id(row: dict[str, Any], seen: UniqueIds, index: int) -> None:
    identity = row.get("id")
    if not isinstance(identity, str) or not identity:
        raise DataError(f"row {index} has no id; every row needs a text id")
    before = seen.add(identity)
    if before is not None:
        raise DataError(f"the id '{identity}' stands twice (rows {before} and {index})")
