"""Atomic writes of files, and clear messages when a disk is full or refuses."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from llm_distill.errors import LLMDistillError, WorkspaceError

# From errors of libraries that write with their own code.
FULL = ("No space left on device", "os error 28")
NUMBER = re.compile(r"(?:os error |[Ee]rrno )(\d+)")
NEARLY_FULL = 2**20
MAY_NOT = "look at its mode and owner (ls -ld), and those of the folders above it"
WHAT_TO_DO = {
    errno.EDQUOT: "your quota there is used up: make room, or choose another place with "
    "--workspace DIR",
    errno.EFBIG: "a file may not be that large there: raise the limit (ulimit -f), or choose "
    "another disk with --workspace DIR",
    errno.EROFS: "that disk can only be read: choose another place with --workspace DIR",
    errno.EACCES: MAY_NOT,
    errno.EPERM: MAY_NOT,
    errno.EIO: "the disk, or the network to it, does not work properly: the system's log (dmesg) "
    "says more; copy what can be read to another disk",
    errno.ENAMETOOLONG: "a file's name has at most 255 bytes: choose a shorter one",
    errno.ESTALE: "the network file system has lost it: mount it again",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n)",
    errno.ENFILE: "the system has too many files open: wait, or end what has them",
    errno.ENOTDIR: "it, or something above it, is a file where a folder should be: move it away, "
    "or choose another place with --workspace DIR",
    errno.EISDIR: "it is a folder where a file should be: move it away",
    errno.ELOOP: "its links go round in a circle: remove them",
}
"""What a user can do about an error of a disk, by its number."""

OF_A_NETWORK = re.compile(
    r"nfs\d?|cifs|smb\w*|lustre|beegfs|gpfs|ceph|glusterfs|wekafs|orangefs|afs|9p"
    r"|fuse\.(sshfs|glusterfs|ceph|juicefs|s3fs)"
)
"""Types of file systems that several machines may share."""


def network_file_system(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str | None:
    """The type of the file system that a folder is on, if machines may share it.

    None where the system has no list of mounts, as on macOS.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    place, found = path.resolve(), (-1, "")
    for _, at, kind, *_ in (line.split(" ") for line in lines):
        at = at.encode("latin-1", "replace").decode("unicode_escape")  # a space is \040 there
        if place.is_relative_to(at):
            found = max(found, (len(at), kind))
    return found[1] if OF_A_NETWORK.fullmatch(found[1]) else None


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
        with suppress(OSError):  # what went wrong first matters more
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
        WorkspaceError: instead of an OSError, or of a library's error about a disk.
    """
    try:
        yield
    except LLMDistillError:
        raise
    except Exception as error:
        explained = disk_error(error, folder, what)
        if explained is not None:
            raise explained from error
        if isinstance(error, OSError):
            raise WorkspaceError(f"{what}{error}") from error
        raise


def disk_error(error: BaseException, folder: Path, what: str = "") -> WorkspaceError | None:
    """The error to raise if a disk has refused to write to `folder`, or to read; else None."""
    named = getattr(error, "filename", None)
    about = os.fsdecode(named) if isinstance(named, str | bytes) else str(folder)
    place = Path(about).absolute()
    while not _is_folder(place) and place != place.parent:
        place = place.parent
    usage = _usage(place)
    if _is_full(error, usage[0]):
        kept = "finished stages are kept: make room, or choose another place with --workspace DIR"
        room = f"{usage[0] / 2**30:.2f} GiB free"
        if usage[1] == 0 and usage[0] > NEARLY_FULL:
            room = "no more files fit: it has no free inodes"
        return WorkspaceError(f"{what}the disk of {place} is full ({room}); {kept}")
    number = _number(error)
    if number not in WHAT_TO_DO:
        return None
    return WorkspaceError(f"{what}{about}: {os.strerror(number)}; {WHAT_TO_DO[number]}")


def _number(error: BaseException) -> int:
    """The system's number of an error; 0 where it has none."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = NUMBER.search(str(error))
    return int(found[1]) if found else 0


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _usage(folder: Path) -> tuple[int, int | None]:
    """Free bytes and inodes; None where the disk does not count inodes."""
    try:
        free, inodes = shutil.disk_usage(folder).free, os.statvfs(folder)
    except OSError:
        return NEARLY_FULL, None
    return free, inodes.f_favail if inodes.f_files else None


def _is_full(error: BaseException, free: int) -> bool:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return True
    text = str(error)
    if any(word in text for word in FULL):
        return True
    # torch's archive writer only says that less was written than expected.
    return "inline_container" in text and ("unexpected pos" in text or free < NEARLY_FULL)
