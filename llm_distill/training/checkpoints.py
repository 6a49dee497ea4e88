"""Which checkpoint a killed training goes on from: the newest that is as it was written."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

from llm_distill.paths import file_digests

DIGESTS = "digests.json"
"""Written last into a checkpoint: {file: sha256} of all the others."""
log = logging.getLogger("llm_distill")


def seal(checkpoint: Path) -> None:
    """Note what a checkpoint's files hold, after all of them are written."""
    text = json.dumps(file_digests(checkpoint), indent=1)
    part = checkpoint / f"{DIGESTS}.part"
    part.write_text(text, encoding="utf-8")
    part.rename(checkpoint / DIGESTS)


def last_whole(folder: Path) -> Path | None:
    """The newest checkpoint that is whole.

    Newer ones that a kill cut short are removed. Newer ones with a changed file are set aside as
    `damaged-checkpoint-6`: they would be resumed in silence, and give other weights.
    """
    found = sorted(
        (path for path in folder.glob("checkpoint-*") if path.name[11:].isdigit()),
        key=lambda path: int(path.name[11:]),
    )
    while found:
        newest = found.pop()
        why = why_not_whole(newest)
        if why is None:
            return newest
        before = found[-1].name if found else "the beginning"
        if (newest / DIGESTS).exists():
            aside = folder / f"damaged-{newest.name}"
            shutil.rmtree(aside, ignore_errors=True)
            newest.rename(aside)
            log.warning("%s is damaged (%s); training goes on from %s", newest.name, why, before)
        else:
            shutil.rmtree(newest)
            log.warning("%s is not complete; training goes on from %s", newest.name, before)
    return None


def why_not_whole(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint; None where it is as it was written."""
    try:
        stated = json.loads((checkpoint / DIGESTS).read_text(encoding="utf-8"))
        there = file_digests(checkpoint)
    except FileNotFoundError:
        return f"it has no {DIGESTS}"
    except (OSError, ValueError) as error:
        return f"{DIGESTS}: {error}"
    there.pop(DIGESTS, None)
    if not isinstance(stated, dict) or not stated:
        return f"{DIGESTS} states no files"
    for name in sorted(stated.keys() | there.keys()):
        if name not in there:
            return f"{name} is missing"
        if stated.get(name) != there[name]:
            return f"{name} has changed"
    return None
