"""What this machine has: GPUs, their memory, its own memory. Found without torch, and quickly.

What cannot be known is None, and nothing is concluded from it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

DRIVERS = ("/dev/nvidiactl", "/dev/nvidia0", "/proc/driver/nvidia", "/dev/kfd", "/dev/dxg")
"""One of them is there where there is a GPU of NVIDIA or AMD, or Windows lends one."""
QUERY = ("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")
SECONDS_TO_ANSWER = 20
MIB = 2**20


@dataclass(frozen=True)
class Hardware:
    """What a run may use.

    gpus: how many; None: not known. gpu_bytes: of the largest one. ram_bytes: of the machine, with
        its swap space.
    """

    gpus: int | None
    gpu_bytes: int | None
    ram_bytes: int | None


@cache
def this_machine() -> Hardware:
    """Asked once in a process."""
    memories = _gpu_memories()
    ram = _ram()
    if memories is None:
        return Hardware(None, None, ram)
    visible = _n_visible(len(memories), os.environ.get("CUDA_VISIBLE_DEVICES"))
    if visible is None:
        return Hardware(None, None, ram)
    return Hardware(visible, max(memories) if visible else None, ram)


def _gpu_memories() -> list[int] | None:
    """Bytes of each; empty where there is no GPU."""
    if not any(Path(driver).exists() for driver in DRIVERS):
        return []
    if Path("/dev/dxg").exists() or shutil.which(QUERY[0]) is None:
        return None  # not known; Windows moves what does not fit into the machine's memory
    try:
        found = subprocess.run(
            QUERY, capture_output=True, text=True, timeout=SECONDS_TO_ANSWER, check=True
        )
        return [int(line) * MIB for line in found.stdout.split("\n") if line.strip()]
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _n_visible(there: int, wanted: str | None) -> int | None:
    """How many CUDA shows of those that are there; wanted: CUDA_VISIBLE_DEVICES."""
    if wanted is None:
        return there
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    if any(name.startswith("MIG") for name in names):
        return None
    shown = 0
    for name in names:
        if name.lstrip("-").isdigit() and not 0 <= int(name) < there:
            break  # CUDA ends its list here
        shown += 1
    return min(shown, there)


def _ram() -> int | None:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        swap = sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("SwapTotal"))
    except (OSError, ValueError, IndexError):
        return None
    return total + swap
