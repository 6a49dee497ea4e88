"""What is written row by row is a dataset, and reading it row by row gives the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, Features, List, Value, load_from_disk

from llm_distill.runtime import writer
from llm_distill.runtime.writer import read_rows, write_rows
from llm_distill.stage import RowsOutput

FEATURES = Features({
    "id": Value("string"), "skills": List(Value("string")), "n": Value("int64"),
    "messages": List({"role": Value("string"), "content": Value("string")}),
})  # fmt: skip


def rows(n: int) -> list[dict[str, Any]]:
    return [
        {"id": f"q{i}", "skills": ["add"] * (i % 3), "n": None if i % 2 else i,
         "messages": [{"role": "user", "content": "ü"}] * (i % 2)}
        for i in range(n)
    ]  # fmt: skip


@pytest.mark.parametrize("n", [0, 1, 1000, 2001])
def test_rows_come_back(n: int, tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    assert write_rows(RowsOutput(iter(rows(n)), FEATURES), folder) == n
    saved = load_from_disk(str(folder))
    assert saved.features == FEATURES
    assert list(read_rows(folder)) == list(saved) == rows(n)


def test_two_datasets_differ_for_libraries_that_keep_what_they_compute(tmp_path: Path) -> None:
    for name in "ab":
        write_rows(RowsOutput(iter(rows(1)), FEATURES), tmp_path / name)
    first, second = (load_from_disk(str(tmp_path / name)) for name in "ab")
    assert first._fingerprint != second._fingerprint


def test_shards_are_read_in_their_order(tmp_path: Path) -> None:
    Dataset.from_list(rows(30), features=FEATURES).save_to_disk(str(tmp_path), num_shards=12)
    assert [row["id"] for row in read_rows(tmp_path)] == [f"q{i}" for i in range(30)]
    shard = (tmp_path / "data-00000-of-00012.arrow").read_bytes()
    (tmp_path / "data-00012-of-00013.arrow").write_bytes(shard)  # nobody's
    assert len(list(read_rows(tmp_path))) == 30


def test_arrays_are_written_as_they_are_and_batches_of_them_stay_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = Features({"id": Value("string"), "logps": List(Value("float32"))})
    given = [
        {"id": str(i), "logps": np.arange(i, 2 * i, dtype=np.float32) / 3 if i != 5 else None}
        for i in range(1, 20)
    ]
    monkeypatch.setattr(writer, "NUMBERS_AT_ONCE", 40)
    write_rows(RowsOutput(iter(given), features), tmp_path / "arrays")
    plain = [{**row, "logps": None if row["logps"] is None else row["logps"].tolist()}
             for row in given]  # fmt: skip
    assert list(read_rows(tmp_path / "arrays")) == plain
    saved = load_from_disk(str(tmp_path / "arrays"))
    assert saved.features == features
    assert saved.data.column("logps").num_chunks == 4
    write_rows(RowsOutput(iter(plain), features), tmp_path / "lists")
    assert list(read_rows(tmp_path / "lists")) == plain
