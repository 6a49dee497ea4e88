"""Lists that a user has written in YAML files, such as of skills or labels."""

from __future__ import annotations

from pathlib import Path

from llm_distill.errors import DataError, nearest
from llm_distill.paths import file_digests, find_resource


def list_text(path: str) -> tuple[str, str]:
    """The file's text, and where the file is, for messages.

    Raises:
        DataError: it is not there, or is no UTF-8 text.
    """
    file = _find(path)
    try:
        return file.read_text(encoding="utf-8-sig"), str(file)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read as UTF-8 text: {error}") from error


def list_digests(path: str) -> dict[str, str]:
    """For `Stage.source_digests`."""
    return file_digests(_find(path))


def _find(path: str) -> Path:
    file = find_resource(path)
    if file is None or not file.is_file():
        folder = find_resource(str(Path(path).parent))
        there = folder.glob("*.y*ml") if folder is not None and folder.is_dir() else ()
        names = [str(Path(path).parent / found.name) for found in there]
        hint = nearest(path, names).replace("allowed:", "there are:")
        raise DataError(f"no file '{path}'; {hint}")
    return file
