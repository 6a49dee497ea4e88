"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path


def describe(*packages: str) -> str:
    """One line: GPU, processor, cores, load, versions of Python and of these packages."""
    torch = sys.modules.get("torch")
    has_gpu = torch is not None and torch.cuda.is_available()
    gpu = f"{torch.cuda.get_device_name()}, " if torch is not None and has_gpu else ""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text()
        model = next(line for line in cpuinfo.splitlines() if line.startswith("model name"))
        processor = model.partition(": ")[2]
    except (OSError, StopIteration):
        processor = platform.processor()
    load = os.getloadavg()[0]
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"{gpu}{processor}, {os.cpu_count()} cores, load {load:.1f}; "
        f"Python {sys.version.split()[0]}, {versions}"
    )
