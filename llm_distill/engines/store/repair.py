"""A damaged completion store: find what is wrong, set it aside, and save what can be read."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import accumulate
from pathlib import Path
from typing import Any

from llm_distill.engines.store.file import (
    ADDED,
    CONTENT,
    SCHEMA_VERSION,
    TABLES,
    checksum,
    connect,
    is_damage,
    store_error,
)
from llm_distill.engines.store.pages import INTERIOR, KINDS, LEAF, Pages

COLUMNS = ("id", "key", "truncated_at", "model", "created", "checksum", *CONTENT)
MISSING = tuple(accumulate(len(names) for names in reversed(ADDED)))
"""How many columns the rows of each older version lack."""
KEY_BYTES = 32
LEAST_ROW = 60
"""Bytes of a page; no row takes fewer."""
ONE_BY_ONE = f"SELECT {', '.join(COLUMNS[1:])} FROM completions"


def problems(path: Path) -> list[str]:
    """What is wrong with the file, in words; empty where nothing is.

    Raises:
        WorkspaceError: it was written by a newer version, or cannot be opened.
    """
    try:
        with closing(connect(path)) as db:
            found = [text for (text,) in db.execute("PRAGMA integrity_check(10)") if text != "ok"]
            rows = db.execute(ONE_BY_ONE)
            changed = sum(
                stated != checksum(key, cut, content) for key, cut, _, _, stated, *content in rows
            )
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise store_error(error, path) from error
        return [str(error)]
    if changed:
        found.append(f"{changed} completions have changed since they were written")
    return found


def mend(path: Path) -> str:
    """Set a damaged file aside, write what can be read of it into a new one, and say so.

    Nothing happens where another process has mended it meanwhile.

    Raises:
        OSError, WorkspaceError: the new file cannot be written; the damaged one is where it was.
    """
    from filelock import FileLock

    with FileLock(f"{path}.lock"):
        if path.exists() and not problems(path):
            return f"{path.name} was damaged; another run has just mended it"
        aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
        partial = path.with_name(f"{path.name}.partial")
        for suffix in ("", "-wal", "-shm", "-journal"):
            partial.with_name(partial.name + suffix).unlink(missing_ok=True)
        try:
            saved, lost = _rescue(path, partial)
        except BaseException as error:
            partial.unlink(missing_ok=True)
            if isinstance(error, sqlite3.Error):
                raise store_error(error, path) from error
            raise
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
        partial.rename(path)
    how_many = "an unknown number were" if lost is None else f"at most {lost:,} were"
    return (
        f"the completion store was damaged: {saved:,} completions were saved, {how_many} lost and "
        f"will be asked for again; the damaged file is kept as {aside}"
    )


def _rescue(damaged: Path, partial: Path) -> tuple[int, int | None]:
    """How many rows were copied, and at most how many could not be; None: nobody knows."""
    with Pages(damaged) as pages, closing(sqlite3.connect(partial, isolation_level=None)) as target:
        for table in TABLES:
            target.execute(table)
        target.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        target.execute("BEGIN")
        marks = ", ".join("?" * len(COLUMNS))
        insert = f"INSERT OR IGNORE INTO completions ({', '.join(COLUMNS)}) VALUES ({marks})"
        last = 0
        for number in range(2, pages.there + 1):
            for row_id, values in pages.rows(number):
                if (row := _completion(row_id, values)) is not None:
                    target.execute(insert, row)
                    last = max(last, row_id)
                elif (model := _model(row_id, values)) is not None:
                    target.execute("INSERT OR IGNORE INTO models VALUES (?, ?, ?)", model)
            last = max(last, *_ids_told(pages, number), 0)
        # A new model may not get the number of one whose name is lost.
        target.execute(
            "INSERT INTO models SELECT DISTINCT model, 'unknown-' || model, 'unknown' "
            "FROM completions WHERE model NOT IN (SELECT id FROM models)"
        )
        (saved,) = target.execute("SELECT count(*) FROM completions").fetchone()
        target.execute("COMMIT")
        if pages.stated is None:
            return saved, None
        a_page = pages.size // LEAST_ROW
        n_pages = max(pages.stated, pages.there)
        # Ids up to `last` that were not saved, and rows on lost pages after it. Ids of deleted
        # rows, and pages of other kinds, are counted too: it is a bound.
        lost = last - saved + a_page * _unread_at_the_end(pages, n_pages)
        return saved, max(0, min(lost, a_page * n_pages - saved))


def _completion(row_id: int, values: list[Any]) -> list[Any] | None:
    """The columns of a completion; None where it is not one, or not as it was written."""
    n_missing = len(COLUMNS) - len(values)
    if n_missing in MISSING:
        values = [*values, *([None] * n_missing)]  # written before there were these
    if len(values) != len(COLUMNS) or row_id < 1:
        return None
    _, key, cut, model, created, stated, *content = values
    cost = CONTENT.index("cost")
    try:
        content[cost], created = float(content[cost]), float(created)  # 0.0 is written as 0
        is_whole = isinstance(model, int) and stated == checksum(key, cut, content)
    except (TypeError, ValueError, OverflowError):
        return None
    return [row_id, key, cut, model, created, stated, *content] if is_whole else None


def _model(row_id: int, values: list[Any]) -> list[Any] | None:
    is_one = len(values) == 3 and isinstance(values[1], str) and isinstance(values[2], str)
    return [row_id, *values[1:]] if is_one and len(values[1]) == 2 * KEY_BYTES else None


def _ids_told(pages: Pages, number: int) -> Iterator[int]:
    """Ids of completions that a page above the rows names, and the index of their keys."""
    yield from pages.keys(number)
    for entry in pages.index_entries(number):
        if len(entry) == 3 and isinstance(entry[0], bytes) and isinstance(entry[2], int):
            yield entry[2]


def _unread_at_the_end(pages: Pages, n_pages: int) -> int:
    """How many pages with rows after all that are known there may be: 0 where the last is whole."""
    schema = [values for _, values in pages.rows(1)]
    roots = [v[3] for v in schema if len(v) == 5 and v[:2] == ["table", "completions"]]
    page = roots[0] if roots and isinstance(roots[0], int) else 0
    beside: list[int] = []
    for _ in range(20):  # a tree of more levels is damage
        kind = pages.kind(page) if page else None
        if kind == LEAF and _is_whole(pages, page):
            return 0
        if kind != INTERIOR:
            break
        *beside, page = pages.children(page)
    is_last_level = any(pages.kind(other) == LEAF for other in beside)
    if is_last_level:
        return 1
    there = range(2, pages.there + 1)
    unread = [n for n in there if n not in pages.flowed and pages.kind(n) not in KINDS]
    return n_pages - pages.there + len(unread)


def _is_whole(pages: Pages, page: int) -> bool:
    """Whether every row of a leaf page is as it was written."""
    count = int.from_bytes(pages.page(page)[3:5], "big")
    whole = [row for row in pages.rows(page) if _completion(*row) is not None]
    return len(whole) == count
