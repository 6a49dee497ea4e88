"""Each peer's own virtual environment, made once under `.benchmarks/` in the repository's root."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parents[1] / ".benchmarks"


def interpreter(peer: str) -> Path:
    """The Python of the peer's environment, which is made anew when its pins have changed.

    The pins of `<peer>.txt` are complete: they are installed as they stand, without resolving.
    """
    pins = HERE / f"{peer}.txt"
    folder = ENVIRONMENTS / peer
    python, installed = folder / "bin" / "python", folder / "installed.txt"
    if not installed.is_file() or installed.read_bytes() != pins.read_bytes():
        print(f"installing {peer} {version(peer)} into {folder} …", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = ["-m", "pip", "install", "-qq", "--no-deps", "--disable-pip-version-check"]
        subprocess.run([str(python), *install, "-r", str(pins)], check=True)
        installed.write_bytes(pins.read_bytes())
    return python


def version(peer: str) -> str:
    """The peer's version, as pinned."""
    lines = (HERE / f"{peer}.txt").read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith(f"{peer}==")).partition("==")[2]
