"""Rows to a dataset on disk and back, streamed: a batch is in memory, and 12 bytes per older row.

Numbers in numpy arrays are written as they are; in lists each takes 32 bytes of memory.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_distill.errors import DataError
from llm_distill.rows.unique_ids import UniqueIds

if TYPE_CHECKING:
    from datasets import Features

    from llm_distill.rows.columns import Row
    from llm_distill.stage import RowsOutput

DATA_FILE = "data-00000-of-00001.arrow"
# Opening a dataset reads the head of every batch, and each read maps some 64 KiB of the file.
ROWS_AT_ONCE = 5_000
# Entries of rows' lists: bounds the batches of log-probabilities that a stage reads.
NUMBERS_AT_ONCE = 2**20
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
UNFIT = (TypeError, ValueError, KeyError, OverflowError)


def write_rows(output: RowsOutput, directory: Path) -> int:
    """Write the rows to `directory` as `Dataset.load_from_disk` reads them; returns how many.

    Raises:
        DataError: a row lacks an id, repeats one, or has a value of another type than declared.
    """
    from datasets.arrow_writer import ArrowWriter

    with interrupts_after():
        _save_empty(output.features, directory)
    seen = UniqueIds()
    count, last, waiting = 0, None, 0
    path = str(directory / DATA_FILE)
    with ArrowWriter(features=output.features, path=path, writer_batch_size=ROWS_AT_ONCE) as writer:
        for row in output.rows:
            _check_id(row, seen, count)
            try:
                example = _encoded(output.features, row)
            except UNFIT as error:
                raise DataError(f"row {row['id']}: {error}") from error
            count, last = count + 1, row["id"]
            _write(writer.write, f"a row at or before {last}", example)
            waiting += sum(len(v) for v in example.values() if isinstance(v, list) or _is_array(v))
            if waiting >= NUMBERS_AT_ONCE:
                _write(writer.write_examples_on_file, f"a row at or before {last}")
            if waiting >= NUMBERS_AT_ONCE or count % ROWS_AT_ONCE == 0:
                waiting = 0
        _write(writer.finalize, f"a row at or before {last}")
    return count


def read_rows(directory: Path) -> Iterator[Row]:
    """The rows that `write_rows` wrote, in order.

    Files are read, not mapped: mapped pages count as the process's memory. A dataset's own loop,
    which makes a table of each row, takes 5 (long texts) to 20 times (short ones) as long.
    """
    import pyarrow as pa

    # What the dataset says it is made of, as datasets reads it too; not what lies in the folder.
    state = json.loads((directory / "state.json").read_text(encoding="utf-8"))
    for part in state["_data_files"]:
        path = str(directory / part["filename"])
        with pa.OSFile(path) as file, pa.ipc.open_stream(file) as batches:
            for batch in batches:
                columns = batch.to_pydict()
                for values in zip(*columns.values(), strict=True):
                    yield dict(zip(columns, values, strict=True))


def _encoded(features: Features, row: Row) -> Row:
    """As `features` say; arrays stay, of which `datasets` would make lists of numpy's numbers."""
    arrays = {name: value for name, value in row.items() if _is_array(value)}
    encoded: Row = features.encode_example({**row, **dict.fromkeys(arrays)})
    return {**encoded, **arrays}


def _is_array(value: object) -> bool:
    return type(value).__module__ == "numpy"  # which plans and --help do without


def _write(write: Callable[..., Any], where: str, *values: Any) -> None:
    """`where` is vague because rows are written many at a time: any of them may not fit."""
    try:
        write(*values)
    except UNFIT as error:
        raise DataError(f"{where}: {error}") from error


def _save_empty(features: Features, directory: Path) -> None:
    """Save a dataset without rows, whose one data file is then written again.

    `save_to_disk` of a dataset with rows would map the file that was just written and copy it.
    """
    from datasets import Dataset
    from datasets.fingerprint import generate_random_fingerprint

    table = features.arrow_schema.empty_table()
    # One of its own: libraries keep what they compute from a dataset under it.
    empty = Dataset(table, fingerprint=generate_random_fingerprint())
    empty.save_to_disk(str(directory), num_shards=1)
    (directory / DATA_FILE).unlink()


def _check_id(row: dict[str, Any], seen: UniqueIds, index: int) -> None:
    identity = row.get("id")
    if not isinstance(identity, str) or not identity:
        raise DataError(f"row {index} has no id; every row needs a text id")
    before = seen.add(identity)
    if before is not None:
        raise DataError(f"the id '{identity}' appears twice (rows {before} and {index})")


@contextmanager
def interrupts_after() -> Iterator[None]:
    """Delay what would interrupt the block until after it. For short work, in the main thread.

    For calls of a library that catch everything, even KeyboardInterrupt: `datasets` does so where
    it computes the fingerprint of a dataset, and Ctrl-C would be lost.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in STOPPING}
    handlers = {number: handler for number, handler in before.items() if callable(handler)}
    for number in handlers:
        signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if came:
        handlers[signal.Signals(came[0])](came[0], None)
