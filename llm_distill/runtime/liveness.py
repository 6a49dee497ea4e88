"""Whether a process that wrote its name down still lives, on this machine or on another.

Where process ids mean the same (the same boot of the system, the same namespace of ids), the
process table tells, by id and start time: an id alone may have been given to another process.
Elsewhere, on another machine or in a container that shares the disk, a heartbeat tells: a file that
the process touches while it lives. Its age is measured by the clock of the disk it is on.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from pydantic import BaseModel

SECONDS_BETWEEN_BEATS = 15.0
DEAD_AFTER = 90.0
"""Seconds without a beat. A network file system may show a time that is a minute old."""
PROC = Path("/proc")


class Process(BaseModel, extra="ignore", frozen=True):
    """A process, told from all others on any machine.

    host: the machine's name, for people. where: the system's boot and the namespace of its process
    ids; empty where the system does not say. pid, ticks: its id, and when it started.
    """

    host: str = ""
    where: str = ""
    pid: int
    ticks: int | None = None

    @classmethod
    def this(cls) -> Self:
        pid = os.getpid()
        return cls(host=os.uname().nodename, where=_here(), pid=pid, ticks=_stat(pid)[1])

    @property
    def is_here(self) -> bool:
        """Whether its id means the same to this process."""
        return self.where != "" and self.where == _here()

    def is_alive(self, *beats: Path) -> bool:
        """beats: the files that it touches; those that are not there are passed over."""
        if self.is_here:
            try:
                os.kill(self.pid, 0)
            except (ProcessLookupError, OverflowError):
                return False
            except PermissionError:  # another user's
                pass
            state, ticks = _stat(self.pid)
            if state is not None:
                return state not in "ZX" and ticks == self.ticks
        return age(*beats) < DEAD_AFTER


@contextmanager
def beating(beat: Path) -> Iterator[None]:
    """Touch a file every few seconds meanwhile."""
    ended = threading.Event()

    def touch() -> None:
        while not ended.wait(SECONDS_BETWEEN_BEATS):
            with suppress(OSError):  # the next may reach the disk
                os.utime(beat)

    with suppress(OSError):
        beat.touch()
    threading.Thread(target=touch, name="heartbeat", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def age(*files: Path) -> float:
    """Seconds since the newest of these files was changed, by the clock of their disk.

    Infinite where there is none of them.
    """
    changed = [at for file in files if (at := _changed(file)) is not None]
    return _now(files[0].parent) - max(changed) if changed else float("inf")


def _changed(file: Path) -> float | None:
    try:
        with file.open("rb") as opened:  # opened, a network file system asks its server
            return os.fstat(opened.fileno()).st_mtime
    except OSError:
        return None


def _now(folder: Path) -> float:
    """The time of the disk: what it gives to a file that is made now."""
    probe = folder / f".now-{os.uname().nodename[:60]}-{os.getpid()}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:  # it may only be read
        return time.time()
    finally:
        with suppress(OSError):
            probe.unlink()


def _here() -> str:
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return ""


def _stat(pid: int) -> tuple[str | None, int | None]:
    """A process's state, and its start in ticks since the boot; None where that is not shown."""
    try:
        # The name, in brackets, may have spaces and brackets in it.
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, ValueError, IndexError):
        return None, None
