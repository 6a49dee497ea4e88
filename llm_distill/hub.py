"""Which commit a name on the Hub stands for.

The Hub client's own cache is the memory: a name stays at the commit that was first downloaded, so
a pipeline's results do not change under it. `revision`, or an emptied cache, moves it on.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Literal

Kind = Literal["model", "dataset"]

log = logging.getLogger("llm_distill")

SMALL_FILE = {"model": "config.json", "dataset": "README.md"}


def cached_commit(kind: Kind, name: str, revision: str | None) -> str | None:
    """The commit that a branch or tag had when it was last downloaded; without the network.

    Read from the cache's files, because importing the Hub's client takes longer than a plan may.
    """
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE", str(home / "hub")))
    folder = cache / f"{kind}s--{name.replace('/', '--')}"
    try:
        return (folder / "refs" / (revision or "main")).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def is_offline() -> bool:
    """Whether the Hub's client is told to stay off the network."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in names)


def learn_commit(kind: Kind, name: str, revision: str | None) -> None:
    """Make the cache know a name's commit, by downloading a small file of it.

    Failing is not an error here: whatever loads the name says what is wrong with it.
    """
    if is_offline() or cached_commit(kind, name, revision) is not None:
        return
    from huggingface_hub import hf_hub_download

    try:
        hf_hub_download(name, SMALL_FILE[kind], repo_type=kind, revision=revision)
    except Exception as error:  # the client raises a dozen kinds
        log.info("the commit of %s %s is not known: %s", kind, name, error)
