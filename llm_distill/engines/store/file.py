"""The completion store's file: its tables, opening it, and what its errors mean."""

from __future__ import annotations

import errno
import sqlite3
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llm_distill.errors import WorkspaceError

SCHEMA_VERSION = 1
TABLES = """
CREATE TABLE IF NOT EXISTS models (
    id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, name TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS completions (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL,
    truncated_at INTEGER NOT NULL,  -- max_tokens where that cut it; 0: it ended by itself
    model INTEGER NOT NULL,
    created REAL NOT NULL,          -- seconds since 1970
    checksum INTEGER NOT NULL,
    text TEXT NOT NULL,
    token_ids BLOB,                 -- of a score: int32, as the machine has it
    logprobs BLOB,                  -- float64, as the machine has it
    n_prompt_tokens INTEGER NOT NULL,
    n_completion_tokens INTEGER NOT NULL,
    cost REAL NOT NULL,
    UNIQUE (key, truncated_at)
);
"""
CONTENT = ("text", "token_ids", "logprobs", "n_prompt_tokens", "n_completion_tokens", "cost")
BUSY_SECONDS = 60.0


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
        db.execute("PRAGMA journal_mode = WAL")
        # Survives the death of the process at once, that of the machine up to the last checkpoint.
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA cell_size_check = ON")
        if version < SCHEMA_VERSION:
            db.executescript(f"{TABLES} PRAGMA user_version = {SCHEMA_VERSION};")
    except BaseException:
        db.close()
        raise
    return db


def is_damage(error: sqlite3.Error) -> bool:
    """Whether it means that the file's content is broken."""
    name = getattr(error, "sqlite_errorname", "")
    return name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or "no such" in str(error)


def store_error(error: sqlite3.Error, path: Path) -> Exception:
    """What else can be wrong with the file, as an error that a user can act on."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_FULL"):
        return OSError(errno.ENOSPC, "No space left on device", str(path))
    if name.startswith("SQLITE_BUSY"):
        return WorkspaceError(f"{path} was locked by another run for {BUSY_SECONDS:.0f} s")
    return WorkspaceError(
        f"the completion store {path}: {error}; is the folder writable, and has it room?"
    )


def checksum(key: bytes, cut: int, content: Sequence[Any]) -> int:
    """crc32 of a row: SQLite notices a broken page, not a flipped bit in a text."""
    return zlib.crc32(repr((key, cut, *content)).encode("utf-8", "surrogatepass"))
