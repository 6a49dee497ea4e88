"""Where a relative path of a pipeline file is looked up."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def bundled_root() -> Path:
    """The folder with `pipelines/`, `prompts/` and `data/`: inside the wheel, or the clone."""
    installed = _PACKAGE / "_bundled"
    return installed if installed.is_dir() else _PACKAGE.parent


def find_resource(path: str) -> Path | None:
    """The path as given (from the working directory), else among what the package bundles.

    Returns None where it is in neither; the caller says what it was looking for.
    """
    try:
        here = Path(path).expanduser()
    except RuntimeError:  # ~name of nobody on this machine
        here = Path(path)
    if here.exists():
        return here
    if here.is_absolute():
        return None
    bundled = bundled_root() / path
    return bundled if bundled.exists() else None
