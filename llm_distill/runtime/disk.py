"""Writing so that a file is there as a whole or not at all, and saying it when a disk is full."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llm_distill.errors import LLMDistillError, WorkspaceError

# What libraries that write with code of their own put into errors of their own.
FULL = ("No space left on device", "os error 28", "Disk quota exceeded", "os error 122")
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
    """Turn what the system says of a disk into an error that a user can act on.

    Raises:
        WorkspaceError: instead of an OSError, or of what a library makes of a full disk.
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
    """What to say if it is for want of room that writing to `folder` failed; else None."""
    while not folder.exists():
        folder = folder.parent
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
    # torch's writer of archives only says that less was written than it gave out.
    return "inline_container" in text and ("unexpected pos" in text or free < NEARLY_FULL)
