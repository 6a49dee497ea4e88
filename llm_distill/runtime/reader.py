"""Rows of a dataset on disk, streamed: one batch is in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from llm_distill.rows.columns import Row


def read_rows(directory: Path) -> Iterator[Row]:
    """The rows that `write_rows` wrote, in order.

    Files are read, not mapped: pages of a map count as the process's memory. And a dataset's own
    loop, which makes a table of each row, takes 5 (long texts) to 20 times (short ones) as long.
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
