"""A stage's log file: without secrets, and a full disk does not break what is logged."""

from __future__ import annotations

import logging
from pathlib import Path

from llm_distill.secrets import without_secrets


def log_file(path: Path) -> logging.Handler:
    """Writes to the end of a file. Its lines are lost where the disk is full."""
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    return handler


class _Formatter(logging.Formatter):
    """Tracebacks too quote what a library or a server said."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


class _LogFile(logging.FileHandler):
    """A stage's log. On a full disk its lines are lost, and the stage fails with the reason."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Print nothing; the library would print a traceback for each line."""
