"""Datasets that are saved on disk or lie on the Hub, with errors that say what to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llm_distill.errors import DataError, nearest

if TYPE_CHECKING:
    from datasets import Dataset


def from_saved(directory: Path, split: str) -> Dataset:
    """A dataset (or one of its splits) as `save_to_disk` writes it.

    Raises:
        DataError: it is none, or has no such split.
    """
    from datasets import DatasetDict, load_from_disk

    try:
        loaded = load_from_disk(str(directory))
    except (OSError, ValueError) as error:
        there = sorted(path.name for path in directory.iterdir())[:20]
        raise DataError(
            f"{directory}: no file for split '{split}' and no saved dataset; there: {there}"
        ) from error
    if isinstance(loaded, DatasetDict):
        if split not in loaded:
            raise DataError(f"{directory}: no split '{split}'; {nearest(split, loaded)}")
        return loaded[split]
    return loaded


def from_hub(path: str, name: str | None, split: str, revision: str | None) -> Dataset:
    """A dataset on the Hub, without running any code of its repository.

    Raises:
        DataError: it cannot be had, with the Hub's reason.
    """
    from datasets import load_dataset

    try:
        return load_dataset(path, name, split=split, revision=revision)
    except Exception as error:  # the client raises a dozen kinds; each is the user's to mend
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"dataset '{path}' is no local file or directory, and the Hub gave: {reason}"
        ) from error
