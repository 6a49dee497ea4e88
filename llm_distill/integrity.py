"""Whether an artifact's folder is what its manifest says: what `runtime` reuses and cards quote."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from llm_distill.manifest import MANIFEST, Manifest, is_as_written, raw_manifest
from llm_distill.paths import file_digests

FINGERPRINT_LENGTH = 12
"""How many hex digits of its fingerprint are in the name of an artifact's folder."""


class DamagedError(Exception):
    """An artifact does not agree with its manifest. The message says how."""


def checked_manifest(path: Path) -> Manifest:
    """The manifest of the artifact at `path`, which was not edited and is not another's.

    Raises:
        DamagedError: it is not there, or not as it was written.
        OSError: it may not be read, which is not damage.
    """
    raw = raw_manifest(path)
    if raw is None:
        with suppress(FileNotFoundError):
            (path / MANIFEST).read_bytes()
        raise DamagedError(f"{MANIFEST} is missing or unreadable")
    if not is_as_written(raw):
        raise DamagedError(f"{MANIFEST} was edited: its digest does not match")
    try:
        manifest = Manifest.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DamagedError(f"{MANIFEST} has another form: {place}: {first['msg']}") from error
    if not path.name.endswith(f"-{manifest.fingerprint[:FINGERPRINT_LENGTH]}"):
        raise DamagedError(f"{MANIFEST} belongs to another artifact")
    return manifest


def check_files(path: Path, manifest: Manifest, read_up_to: float) -> None:
    """Compare the files with the manifest: all by size, those up to so many bytes by content too.

    Raises:
        DamagedError: one is missing or differs.
    """
    for name, stated in manifest.files.items():
        file = path / name
        if not file.is_file():
            raise DamagedError(f"{name} is missing")
        size = file.stat().st_size
        if size != stated.bytes:
            raise DamagedError(f"{name} has {size} bytes, not {stated.bytes}")
        if size <= read_up_to and file_digests(file)[file.name] != stated.sha256:
            raise DamagedError(f"{name} has changed: its sha256 does not match")
