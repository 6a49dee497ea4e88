"""Atomic writes of files, and clear messages when a disk is full."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llm_distill.errors import LLMDistillError, WorkspaceError, first_line

# From errors of libraries that write with their own code.
FULL = ("No space left on device", "os error 28", "Disk quota exceeded", "os error 122")
TOO_LARGE = ("File too large", "os error 27")
NEARLY_FULL = 2**20


def write_durably(path: Path, text: str) -> None:
    """Write a whole file or nothing: a temporary sibling, then one rename."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def disk_explained(folder: Path, what: str = "") -> Iterator[None]:
    """Turn errors of a disk into one that a user can act on.

    Raises:
        WorkspaceError: instead of an OSError, or of a library's error about a full disk.
    """
    try:
        yield
    except LLMDistillError:
        raise
    except Exception as error:
        full = full_disk(error, folder, what)
        if full is not None:
            raise full from error
        if isinstance(error, OSError):
            raise WorkspaceError(f"{what}{error}") from error
        raise


def full_disk(error: Exception, folder: Path, what: str = "") -> WorkspaceError | None:
    """The error to raise if writing to `folder` failed for want of room; else None."""
    while not folder.exists():
        folder = folder.parent
    if any(words in str(error) for words in TOO_LARGE):
        return WorkspaceError(
            f"{what}a file in {folder} may not become as large as it has to ({first_line(error)}); "
            "finished stages are kept: raise the limit (ulimit -f), or choose another place with "
            "--workspace DIR"
        )
    free = shutil.disk_usage(folder).free
    if not _is_full(error, free):
        return None
    return WorkspaceError(
        f"{what}the disk of {folder} is full ({free / 2**30:.2f} GiB free); finished stages are "
        "kept: make room, or choose another place with --workspace DIR"
    )


def _is_full(error: Exception, free: int) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    text = str(error)
    if any(word in text for word in FULL):
        return True
    # torch's archive writer only says that less was written than expected.
    return "inline_container" in text and ("unexpected pos" in text or free < NEARLY_FULL)
