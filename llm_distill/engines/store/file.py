"""The completion store's file: its tables, opening it, and what its errors mean."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import sqlite3
import time
import zlib
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from llm_distill.errors import WorkspaceError

SCHEMA_VERSION = 3
MODELS = """
CREATE TABLE IF NOT EXISTS models (
    id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, name TEXT NOT NULL
)"""
COMPLETIONS = """
CREATE TABLE IF NOT EXISTS completions (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL,
    truncated_at INTEGER NOT NULL,  -- max_tokens where that cut it; 0: it ended by itself
    model INTEGER NOT NULL,
    created REAL NOT NULL,          -- seconds since 1970
    checksum INTEGER NOT NULL,
    text TEXT NOT NULL,
    token_ids BLOB,                 -- where asked for; of a score, its ranks, the likeliest: int32
    logprobs BLOB,                  -- float64, as the machine has it
    n_prompt_tokens INTEGER NOT NULL,
    n_completion_tokens INTEGER NOT NULL,
    cost REAL NOT NULL,
    reasoning TEXT,
    tool_calls TEXT,                -- JSON
    thought_cut INTEGER,            -- 1: its budget closed a thought; null: it had none
    UNIQUE (key, truncated_at)
)"""
TABLES = (MODELS, COMPLETIONS)
ADDED = (("reasoning", "tool_calls"), ("thought_cut",))
"""Columns that came with version 2, with version 3 and so on."""
CONTENT = (
    *("text", "token_ids", "logprobs", "n_prompt_tokens", "n_completion_tokens", "cost"),
    *(name for names in ADDED for name in names),
)
BUSY_SECONDS = 60.0
WRITTEN_AT_ONCE = NEARLY_FULL = 2**20
"""Bytes: what SQLite may write in one go, and less than which a disk is full to it."""


def knows_model(path: Path, model_digest: str) -> bool | None:
    """Whether a model has ever been asked; None where the file cannot be read. Writes nothing."""
    if not path.is_file():
        return False
    find = "SELECT 1 FROM models WHERE digest = ?"
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            return db.execute(find, (model_digest,)).fetchone() is not None
    except sqlite3.Error:
        return None


def connect(path: Path) -> sqlite3.Connection:
    """Open the file, made where there is none.

    Raises:
        WorkspaceError: it was written by a newer version.
        sqlite3.DatabaseError: what else is wrong with it; see `is_damage` and `store_error`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise WorkspaceError(
                f"{path} was written by a newer llm-distill (its schema is {version}, this one "
                f"reads {SCHEMA_VERSION}); upgrade, or choose another place with --workspace DIR"
            )
        _use_wal(db)
        # Survives the death of the process at once, that of the machine up to the last checkpoint.
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA cell_size_check = ON")
        # A text with a flipped bit may be no UTF-8: its checksum tells, and it is asked for again.
        db.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
        if version < SCHEMA_VERSION:
            _upgrade(db)
    except BaseException:
        db.close()
        raise
    return db


def _use_wal(db: sqlite3.Connection) -> None:
    """Here SQLite does not always wait for another process that opens a new file at the same time.

    Raises:
        sqlite3.OperationalError: it is locked for longer than others are waited for.
    """
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.02)


def _upgrade(db: sqlite3.Connection) -> None:
    """Make the tables, or give those of an older version the columns that were added since."""
    db.execute("BEGIN IMMEDIATE")  # another run may be doing the same
    try:
        for table in TABLES:
            db.execute(table)
        there = {name for _, name, *_ in db.execute("PRAGMA table_info(completions)")}
        for name in (name for names in ADDED for name in names):
            if name not in there:
                kind = "INTEGER" if name == "thought_cut" else "TEXT"
                db.execute(f"ALTER TABLE completions ADD COLUMN {name} {kind}")
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def is_damage(error: sqlite3.Error) -> bool:
    """Whether it means that the file's content is broken."""
    name = getattr(error, "sqlite_errorname", "")
    return name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or "no such" in str(error)


def store_error(error: sqlite3.Error, path: Path) -> Exception:
    """What else can be wrong with the file, as an error that a user can act on.

    SQLite does not pass on why the system refused: an OSError with the likely reason.
    """
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_BUSY"):
        return WorkspaceError(f"{path} was locked by another run for {BUSY_SECONDS:.0f} s")
    number = None
    if name.startswith("SQLITE_FULL"):
        number = errno.ENOSPC
    elif name.startswith("SQLITE_IOERR"):
        number = _why_not_written(path)
    elif name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
        number = errno.EROFS if _is_read_only(path) else errno.EACCES
    if number is not None:
        return OSError(number, os.strerror(number), str(path))
    return WorkspaceError(f"the completion store {path}: {error}")


def _why_not_written(path: Path) -> int:
    parts = [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]
    largest = max((part.stat().st_size for part in parts if part.exists()), default=0)
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit != resource.RLIM_INFINITY and largest + WRITTEN_AT_ONCE > limit:
        return errno.EFBIG
    return errno.ENOSPC if shutil.disk_usage(path.parent).free < NEARLY_FULL else errno.EIO


def _is_read_only(path: Path) -> bool:
    return bool(os.statvfs(path.parent).f_flag & os.ST_RDONLY)


def checksum(key: bytes, cut: int, content: Sequence[Any]) -> int:
    """crc32 of a row: SQLite notices a broken page, not a flipped bit in a text.

    Columns of a later version do not count where they are null, as in all older rows.
    """
    for names in reversed(ADDED):
        if any(value is not None for value in content[-len(names) :]):
            break
        content = content[: -len(names)]
    return zlib.crc32(repr((key, cut, *content)).encode("utf-8", "surrogatepass"))
