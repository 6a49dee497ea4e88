"""Numbers by key, kept on disk line by line: a killed stage goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path


class Kept:
    """What was computed so far.

    Numbers are read back as they were. A last line that a kill cut short is taken off the file.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._found: dict[str, list[float]] = {}
        whole = 0
        for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
            if not line.endswith(b"\n"):
                break
            self._found |= json.loads(line)
            whole += len(line)
        if path.exists():
            os.truncate(path, whole)

    def get(self, key: str) -> list[float] | None:
        """The numbers under a key; None if they were not computed yet."""
        return self._found.get(key)

    def add(self, numbers: Mapping[str, list[float]]) -> None:
        """Keep these, all or none of them."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(numbers)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._found |= numbers
