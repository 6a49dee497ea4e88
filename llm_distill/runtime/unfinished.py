"""What stages that were stopped left behind: half-written rows, checkpoints of a training.

A run with the same settings goes on from it. Where the settings have changed since, none ever will.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from llm_distill.runtime.artifact import Workspace


@dataclass(frozen=True)
class Unfinished:
    """How many stages left something, and how much."""

    n_stages: int
    n_bytes: int


def prune_unfinished(workspace: Workspace, before: float, *, delete: bool) -> Unfinished:
    """Count what has not changed since `before` (seconds since 1970), and delete it if told to.

    What a run is working on is left alone: it holds the artifact's lock.
    """
    from filelock import Timeout

    n_stages = n_bytes = 0
    for folder in sorted(workspace.work.glob("*/")):
        try:
            with workspace.file_lock(folder.name).acquire(timeout=0):
                found = [path.lstat() for path in (folder, *folder.rglob("*"))]
                if max(each.st_mtime for each in found) >= before:
                    continue
                n_stages += 1
                n_bytes += sum(each.st_size for each in found)
                if delete:
                    shutil.rmtree(folder)
        except (Timeout, FileNotFoundError):  # a run is working on it, or has just published it
            continue
    return Unfinished(n_stages, n_bytes)
