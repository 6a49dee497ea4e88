"""What the local Hub cache knows, read without importing the Hub's client."""

from __future__ import annotations

import os
from pathlib import Path


def cached_commit(name: str, revision: str) -> str | None:
    """The commit that a branch or tag of a model pointed to when it was last downloaded."""
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE", str(home / "hub")))
    reference = cache / f"models--{name.replace('/', '--')}" / "refs" / revision
    try:
        return reference.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None
