"""A damaged store: every completion whose page is whole is saved, and the loss is bounded."""

from __future__ import annotations

import gc
import os
import random
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from llm_distill.engines.base import Completion, Request, SamplingSettings
from llm_distill.engines.store.file import connect
from llm_distill.engines.store.pages import Pages
from llm_distill.engines.store.repair import mend, problems
from llm_distill.engines.store.store import CompletionStore, StoredAnswers
from llm_distill.errors import WorkspaceError

PAGE = 4096
SAMPLING = SamplingSettings(temperature=0.7, max_tokens=10)
SAID = re.compile(
    r"([\d,]+) completions were saved, (?:at most ([\d,]+)|(an unknown number)) were lost"
)


def request(index: int) -> Request:
    return Request("r", f"p{index}", SAMPLING, seed=3)


def opened(path: Path, said: list[str] | None = None) -> StoredAnswers:
    told = [] if said is None else said
    return StoredAnswers(CompletionStore(path, told.append), 1, "a/model")


def fill(path: Path, n: int, length: Callable[[int], int], start: int = 0) -> None:
    stored = opened(path)
    for index in range(start, start + n):
        text = f"<{index}>" + "é" * length(index)
        logprobs = (-0.5,) * (index % 3) or None
        done = Completion("x", text, "stop", 1, 2, logprobs, cost=index % 2 / 4)
        stored.keep(stored.key(request(index)), done)


def found(path: Path, n: int) -> set[int]:
    stored = opened(path)
    return {i for i in range(n) if stored.completion(stored.key(request(i)), request(i))}


def pages_of_rows(path: Path, n: int) -> dict[int, int]:
    """The page, from 0, where each row's text begins; found by its bytes, not by the b-tree."""
    gc.collect()  # what is still open would keep the -wal
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert not path.with_name(f"{path.name}-wal").exists()
    data = path.read_bytes()
    return {index: data.index(f"<{index}>".encode()) // PAGE for index in range(n)}


def mended(path: Path) -> tuple[int, int | None]:
    assert problems(path)
    match = SAID.search(mend(path))
    assert match is not None
    assert problems(path) == []
    saved, lost, _ = match.groups()
    return int(saved.replace(",", "")), None if lost is None else int(lost.replace(",", ""))


def short(index: int) -> int:
    return index % 90


def long(index: int) -> int:
    return 12_000 if index % 5 == 0 else 30


@pytest.mark.parametrize(
    ("n", "share"), [(348, 0.97), (348, 0.6), (348, 0.3), (4000, 0.9), (4000, 0.37), (4000, 0.1)]
)
def test_of_a_file_that_was_cut_every_row_before_the_cut_is_saved(
    tmp_path: Path, n: int, share: float
) -> None:
    path = tmp_path / "store.sqlite"
    fill(path, n, short)
    pages = pages_of_rows(path, n)
    cut = int(path.stat().st_size * share)
    os.truncate(path, cut)
    expected = {index for index, page in pages.items() if (page + 1) * PAGE <= cut}
    assert 0 < len(expected) < n
    saved, most = mended(path)
    left = found(path, n)
    assert left >= expected
    assert {pages[index] for index in left - expected} <= {cut // PAGE}  # it is there in part
    assert saved == len(left)
    assert most is not None
    assert n - saved <= most <= n - saved + PAGE // 60


@pytest.mark.parametrize("how", ["zeroed", "random"])
@pytest.mark.parametrize("seed", range(3))
def test_of_broken_pages_only_their_own_rows_are_lost(tmp_path: Path, how: str, seed: int) -> None:
    n = 2000
    path = tmp_path / "store.sqlite"
    fill(path, n, short)
    pages = pages_of_rows(path, n)
    data = bytearray(path.read_bytes())
    drawn = random.Random(seed)
    broken = set(drawn.sample(range(1, len(data) // PAGE), 12))
    for page in broken:
        data[page * PAGE : (page + 1) * PAGE] = (
            bytes(PAGE) if how == "zeroed" else drawn.randbytes(PAGE)
        )
    path.write_bytes(data)
    saved, most = mended(path)
    assert found(path, n) == {index for index, page in pages.items() if page not in broken}
    assert most is not None
    assert most >= n - saved


@pytest.mark.parametrize("n", [1500, pytest.param(12_000, marks=pytest.mark.exhaustive)])
def test_without_the_head_and_all_pages_above_the_rows_no_row_is_lost(
    tmp_path: Path, n: int
) -> None:
    path = tmp_path / "store.sqlite"
    fill(path, n, short)
    pages = set(pages_of_rows(path, n).values())
    data = bytearray(path.read_bytes())
    for page in set(range(len(data) // PAGE)) - pages:
        data[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
    path.write_bytes(data)
    saved, most = mended(path)
    assert (saved, most) == (n, None)  # without its head nobody knows how long the file was
    assert found(path, n) == set(range(n))
    with sqlite3.connect(path) as db:  # the name is lost; another model must not get its number
        assert db.execute("SELECT name FROM models").fetchall() == [("unknown",)]


def test_rows_that_flow_over_several_pages_are_saved_and_their_loss_is_noticed(
    tmp_path: Path,
) -> None:
    n = 400
    path = tmp_path / "store.sqlite"
    fill(path, n, long)
    whole = {i: p for i, p in pages_of_rows(path, n).items() if long(i) == 30}
    with Pages(path) as read:
        rows = sum(1 for number in range(2, read.there + 1) for _ in read.rows(number))
        flowed = sorted(read.flowed)
    assert rows == n + 1  # and the model
    data = bytearray(path.read_bytes())
    root = len(data) // PAGE
    data[(flowed[7] - 1) * PAGE + 100] ^= 1  # one bit in the middle of a long text
    data[100 + 40] ^= 1  # and one in the schema, so that SQLite cannot help
    path.write_bytes(data)
    saved, most = mended(path)
    assert saved == n - 1
    assert most is not None
    assert most >= 1
    assert set(whole) <= found(path, n)
    assert root > len(flowed) >= 80


def test_rows_that_are_still_in_the_wal_are_saved(tmp_path: Path) -> None:
    live, path = tmp_path / "live.sqlite", tmp_path / "store.sqlite"
    fill(live, 200, short)
    pages_of_rows(live, 200)
    db = connect(live)  # while it is open, nobody moves the -wal into the file
    fill(live, 200, short, start=200)
    for suffix in ("", "-wal"):
        shutil.copy(f"{live}{suffix}", f"{path}{suffix}")
    db.close()
    wal = path.with_name("store.sqlite-wal").read_bytes()
    assert b"<399>" in wal
    with path.open("r+b") as file:
        file.write(b"x" * PAGE)
    with Pages(path) as read:
        texts = [str(v) for number in range(2, read.there + 1) for _, v in read.rows(number)]
    assert all(any(f"<{index}>" in text for text in texts) for index in range(400))


def test_a_run_goes_on_with_a_mended_store_and_the_damaged_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    fill(path, 300, short)
    pages_of_rows(path, 300)
    os.truncate(path, path.stat().st_size // 2)
    before = path.read_bytes()
    said: list[str] = []
    stored = opened(path, said)
    stored.completion(stored.key(request(0)), request(0))
    assert SAID.search(said[0])
    (aside,) = (p for p in tmp_path.glob("*damaged*") if not p.name.endswith(("-wal", "-shm")))
    assert aside.read_bytes() == before
    fill(path, 300, short)
    assert found(path, 300) == set(range(300))
    assert problems(path) == []


def test_what_is_no_database_is_set_aside_and_said(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(b"not a database" * 1000)
    assert mended(path) == (0, None)
    fill(path, 3, short)
    assert found(path, 3) == {0, 1, 2}


def test_a_text_that_is_no_longer_utf8_is_asked_for_again(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    fill(path, 5, short)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE completions SET text = CAST(x'ff41' AS TEXT) WHERE id = 3")
    assert found(path, 5) == {0, 1, 3, 4}
    assert problems(path) == ["1 completions have changed since they were written"]


def test_a_store_that_cannot_be_mended_stays_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llm_distill.engines.store import repair

    path = tmp_path / "store.sqlite"
    fill(path, 50, short)
    pages_of_rows(path, 50)
    os.truncate(path, 5 * PAGE)
    before = path.read_bytes()
    # A file of two pages is all that there is room for.
    monkeypatch.setattr(repair, "TABLES", ("PRAGMA max_page_count = 6", *repair.TABLES))
    monkeypatch.setattr(repair, "Pages", lambda _: _Many())
    with pytest.raises((OSError, WorkspaceError), match="No space"):
        mend(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".lock"] == ["store.sqlite"]


class _Many:
    """Pages with more completions than there is room for."""

    there, stated, size = 3, 3, PAGE

    def __enter__(self) -> _Many:
        return self

    def __exit__(self, *_: object) -> None: ...

    def rows(self, number: int) -> list[tuple[int, list[object]]]:
        from llm_distill.engines.store.file import checksum

        content = ["x" * 100_000, None, None, 1, 2, 0.0]
        key = bytes([number]) * 32
        return [(number, [None, key, 0, 1, 1.5, checksum(key, 0, content), *content])]

    def keys(self, number: int) -> list[int]:
        return []

    def index_entries(self, number: int) -> list[list[object]]:
        return []
