"""Which commit a name on the Hub stands for.

The Hub client's own cache is the memory: a name stays at the commit that was downloaded last, so a
pipeline's results do not change because the Hub's do. To hold it for good, set `revision` to a
commit; to move on, clear the name from the cache.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from huggingface_hub import constants

Kind = Literal["model", "dataset"]

log = logging.getLogger("llm_distill")

SMALL_FILE = {"model": "config.json", "dataset": "README.md"}


def cached_commit(kind: Kind, name: str, revision: str | None) -> str | None:
    """The commit that a branch or tag had when it was last downloaded; without the network."""
    folder = Path(constants.HF_HUB_CACHE) / f"{kind}s--{name.replace('/', '--')}"
    if revision and (folder / "snapshots" / revision).is_dir():
        return revision  # it is a commit already
    try:
        return (folder / "refs" / (revision or "main")).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def cached_text(name: str, file: str, revision: str | None) -> str | None:
    """A text file of a model as it was downloaded; without the network."""
    commit = cached_commit("model", name, revision)
    folder = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    try:
        return (folder / "snapshots" / str(commit) / file).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def learn_text(name: str, file: str, revision: str | None) -> None:
    """Make the cache know a small file of a model. Failing is no error, as in `learn_commit`."""
    if is_offline() or cached_text(name, file, revision) is not None:
        return
    from huggingface_hub import hf_hub_download

    try:
        hf_hub_download(name, file, revision=revision)
    except Exception as error:  # the client raises a dozen kinds; the file may not exist
        log.info("%s of model %s is not known: %s", file, name, error)


def is_offline() -> bool:
    """Whether the Hub's client is told to stay off the network."""
    return constants.HF_HUB_OFFLINE


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
