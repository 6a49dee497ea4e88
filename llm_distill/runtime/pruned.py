"""What is left of an artifact that was pruned: its manifest, in `artifacts/.pruned/<address>/`.

So a run whose rows or weights are gone still has its figures, and says why there are no rows.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass

from llm_distill.integrity import DamagedError, checked_manifest
from llm_distill.manifest import MANIFEST, Manifest
from llm_distill.runtime.artifact import Artifact, Workspace


@dataclass(frozen=True)
class Pruned:
    """An artifact that is gone. day: when it was pruned, such as 2026-11-29."""

    manifest: Manifest
    day: str


def find_pruned(workspace: Workspace, address: str) -> Pruned | None:
    """What is left of it, or None if it was not pruned, or is not readable."""
    place = workspace.pruned_place(address)
    try:
        changed = (place / MANIFEST).stat().st_mtime
        return Pruned(checked_manifest(place), time.strftime("%Y-%m-%d", time.localtime(changed)))
    except (OSError, DamagedError):
        return None


def keep_manifest(artifact: Artifact, workspace: Workspace) -> None:
    """Put a copy of the manifest where `find_pruned` finds it."""
    place = workspace.pruned_place(artifact.path.name)
    place.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(artifact.path / MANIFEST, place / MANIFEST)
