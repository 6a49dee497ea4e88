"""What a manifest records about where the work was done."""

from __future__ import annotations

import platform
import subprocess
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "llm-distill",
    "torch",
    "transformers",
    "peft",
    "trl",
    "datasets",
    "accelerate",
    "lm-eval",
)


@lru_cache(maxsize=1)
def environment() -> dict[str, Any]:
    """Package versions, device and git commit. No host name and no user name."""
    return {"packages": _packages(), "device": _device(), "git_commit": _commit()}


def _packages() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _device() -> str:
    torch = sys.modules.get("torch")  # a stage that used no torch ran on the CPU
    if torch is not None and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return f"cpu ({platform.machine()})"


def _commit() -> str | None:
    """The commit of the clone that the code runs from; None for an installed package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "rev-parse", "HEAD"]
        done = subprocess.run(
            command, cwd=root, capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
