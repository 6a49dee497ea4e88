"""How much memory a call takes at its highest."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")


def peak_above(call: Callable[[], Result]) -> tuple[Result, int]:
    """What it gives, and the bytes by which the process was larger meanwhile than before.

    On Linux with glibc, whose free memory is given back first: it would hide what is taken of it.
    """
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far is what it is now
    before = _status("VmRSS")
    given = call()
    return given, _status("VmHWM") - before


def allocated_above(call: Callable[[], Result]) -> tuple[Result, int]:
    """What it gives, and the bytes of the GPU that were allocated meanwhile and not before."""
    import torch

    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    given = call()
    torch.cuda.synchronize()
    return given, torch.cuda.max_memory_allocated() - before


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024
