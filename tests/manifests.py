"""Manifests for tests."""

from __future__ import annotations

from typing import Any

from llm_distill.manifest import Manifest


def manifest(**fields: Any) -> Manifest:
    """A stage's manifest with the required fields and these."""
    least: dict[str, Any] = {
        "name": "made",
        "stage": "toy_rows",
        "fingerprint": "0" * 64,
        "content_digest": "1" * 64,
        "files": {},
        "created": 0.0,
    }
    return Manifest.model_validate({**least, **fields})
