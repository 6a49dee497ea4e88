"""Where a relative path of a pipeline file is looked up."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from llm_distill.doing import Advances, doing
from llm_distill.hints import given

LARGE = 200
"""Megabytes that take a while to read."""
CHUNK = 64 * 10**6
_PACKAGE = Path(__file__).resolve().parent


def bundled_root() -> Path:
    """The folder with `pipelines/`, `prompts/` and `data/`: inside the wheel, or the clone."""
    installed = _PACKAGE / "_bundled"
    return installed if installed.is_dir() else _PACKAGE.parent


def file_digests(path: Path) -> dict[str, str]:
    """The sha256 of a file, or of every file of a directory, by its place in it."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    digests: dict[str, str] = {}
    megabytes = sum(file.stat().st_size for file in files) // 10**6
    is_large = megabytes > LARGE
    with doing(f"check {path.name}", megabytes, "MB") if is_large else nullcontext() as bar:
        for file in files:
            place = file.relative_to(path).as_posix() if path.is_dir() else file.name
            with file.open("rb") as content:
                digests[place] = _digest(content, bar)
    return digests


def _digest(content: Any, bar: Advances | None) -> str:
    if bar is None:
        return hashlib.file_digest(content, "sha256").hexdigest()
    digest = hashlib.sha256()
    while chunk := content.read(CHUNK):
        digest.update(chunk)
        bar.advance(len(chunk) // 10**6)
    return digest.hexdigest()


def find_resource(path: str) -> Path | None:
    """The path as given (from the working directory), else among what the package bundles.

    Returns None where it is in neither; the caller says what it was looking for.
    """
    try:
        here = Path(path).expanduser()
    except RuntimeError:  # ~name of nobody on this machine
        here = Path(path)
    if exists(here):
        return here
    if here.is_absolute():
        return None
    bundled = bundled_root() / path
    return bundled if exists(bundled) else None


def started_elsewhere(path: str) -> str:
    """The part of a message about a path that is there from a folder further up; else nothing.

    Further up from the working directory, or from the pipeline file that was given.
    """
    if Path(path).is_absolute() or path.startswith("~"):
        return ""
    places = [*Path.cwd().parents]
    file = given().file
    if file is not None:
        places += [above for above in Path(file).absolute().parents if above != Path.cwd()]
    for place in places:
        if exists(place / path):
            why = "paths are read from the folder where llm-distill is started"
            return f"start it in {place}: {why}; "
    return ""


def exists(path: Path) -> bool:
    """Whether it is there; what cannot be a path, or not be looked at, is not."""
    try:
        return path.exists()
    except (OSError, ValueError):  # longer than a name can be, a folder that may not be entered
        return False
