"""The manifest that lies in every artifact's folder, as the runtime wrote it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llm_distill.digests import fingerprint

MANIFEST = "manifest.json"


def read_manifest(directory: Path) -> dict[str, Any] | None:
    """An artifact's manifest, unchecked; None where there is none that can be read."""
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) else None


def manifest_digest(manifest: dict[str, Any]) -> str:
    """The digest of all that stands in a manifest except the digest itself.

    It is taken over the JSON as it stands in the file, so that a manifest with fields that this
    version does not know still agrees with its digest.

    Raises:
        ValueError: it holds NaN, which no manifest of ours does.
    """
    return fingerprint({k: v for k, v in manifest.items() if k != "manifest_digest"})


def manifest_text(manifest: dict[str, Any]) -> str:
    """A manifest as it is written to its file."""
    return json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
