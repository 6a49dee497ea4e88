"""A damaged completion store: find what is wrong, set it aside, and save what can be read."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from llm_distill.engines.store.file import (
    CONTENT,
    SCHEMA_VERSION,
    TABLES,
    checksum,
    connect,
    is_damage,
    store_error,
)

COLUMNS = ("key", "truncated_at", "model", "created", "checksum", *CONTENT)
LEAST_ROW = 60
"""Bytes; no row is smaller: a file of n has ids up to n / 60, unless rows were deleted."""


def problems(path: Path) -> list[str]:
    """What is wrong with the file, in words; empty where nothing is.

    Raises:
        WorkspaceError: it was written by a newer version, or cannot be opened.
    """
    try:
        with closing(connect(path)) as db:
            found = [text for (text,) in db.execute("PRAGMA integrity_check(10)") if text != "ok"]
            changed = sum(not whole for _, whole in _rows(db, 1, _last_id(db, path)))
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
    """
    from filelock import FileLock

    with FileLock(f"{path}.lock"):
        if path.exists() and not problems(path):
            return f"{path.name} was damaged; another run has just mended it"
        aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
        saved, lost = _rescue(aside, path)
    how_many = "an unknown number" if lost is None else f"{lost:,}"
    return (
        f"the completion store was damaged: {saved:,} completions were saved, {how_many} were "
        f"lost and will be asked for again; the damaged file is kept as {aside}"
    )


def _rescue(damaged: Path, new: Path) -> tuple[int, int | None]:
    """How many rows were copied and how many could not be; None: nobody knows."""
    partial = new.with_name(f"{new.name}.partial")
    partial.unlink(missing_ok=True)
    saved = lost = 0
    known = True
    with closing(sqlite3.connect(partial, isolation_level=None)) as target:
        for table in TABLES:
            target.execute(table)
        target.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        target.execute("BEGIN")
        try:
            with closing(sqlite3.connect(damaged, isolation_level=None)) as source:
                _copy_models(source, target)
                for row, is_whole in _rows(source, 1, _last_id(source, damaged)):
                    if row is None or not is_whole:
                        lost += 1
                        continue
                    marks = ", ".join("?" * len(COLUMNS))
                    sql = f"INSERT OR IGNORE INTO completions ({', '.join(COLUMNS)})"
                    target.execute(f"{sql} VALUES ({marks})", row)
                    saved += 1
        except sqlite3.DatabaseError:
            known = False
        target.execute("COMMIT")
    partial.rename(new)
    return saved, lost if known else None


def _copy_models(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    with suppress(sqlite3.DatabaseError):  # only the names in `cache stats` would be missing
        for model in source.execute("SELECT id, digest, name FROM models"):
            target.execute("INSERT INTO models (id, digest, name) VALUES (?, ?, ?)", model)


def _last_id(db: sqlite3.Connection, path: Path) -> int:
    try:
        (last,) = db.execute("SELECT max(id) FROM completions").fetchone()
    except sqlite3.DatabaseError as error:
        if "no such" in str(error) or "NOTADB" in error.sqlite_errorname:
            raise
        wal = path.with_name(f"{path.name}-wal")
        size = path.stat().st_size + (wal.stat().st_size if wal.exists() else 0)
        return size // LEAST_ROW
    return last or 0


def _rows(db: sqlite3.Connection, first: int, last: int) -> Iterator[tuple[Any, bool]]:
    """Rows of the ids from first to last, each with whether it is as it was written.

    A range that cannot be read is halved until the ids on the broken pages stand alone; such an id
    gives (None, False).
    """
    if first > last:
        return
    names = ", ".join(COLUMNS)
    # Of one id, `=`: BETWEEN would also look at the next page.
    ids = "id = ?1" if first == last else "id BETWEEN ?1 AND ?2"
    sql = f"SELECT {names} FROM completions WHERE {ids}"
    try:
        if last - first >= 1000:
            raise sqlite3.DatabaseError  # not all of a large file at once
        rows = db.execute(sql, (first, last)[: ids.count("?")]).fetchall()
    except (sqlite3.DatabaseError, UnicodeDecodeError):
        if first == last:
            yield None, False
            return
        middle = (first + last) // 2
        yield from _rows(db, first, middle)
        yield from _rows(db, middle + 1, last)
        return
    for row in rows:
        key, cut, _, _, stated, *content = row
        yield row, stated == checksum(key, cut, content)
