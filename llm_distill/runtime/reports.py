"""What a process that does a stage's work tells the one that started it, through a connection.

For example ("open", 1, "train", 40, "steps", 0), ("advance", 1, 1, 512, 0.0, None),
("log", record), ("close", 1), and at the end ("done", what the stage left or the error that it
raised).
"""

from __future__ import annotations

import logging
import pickle
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from llm_distill.errors import LLMDistillError
from llm_distill.runtime.progress import Counts, every
from llm_distill.stage import Progress

SECONDS_BETWEEN_REPORTS = 0.1


class Report:
    """Sends what happens. Threads of libraries may log at the same time."""

    def __init__(self, messages: Connection) -> None:
        self._messages, self._lock = messages, threading.Lock()
        self._opened = 0

    def send(self, kind: str, *values: Any) -> None:
        with self._lock:
            self._messages.send((kind, *values))

    @contextmanager
    def progress(
        self, description: str, total: int | None, unit: str, done: int
    ) -> Iterator[Progress]:
        self._opened += 1
        number = self._opened

        counts = Counts()

        def tell() -> None:
            news = counts.taken()
            if news is not None:
                self.send("advance", number, *news)

        self.send("open", number, description, total, unit, done)
        try:
            # By the clock, not at the first unit of a batch: the others would come a batch later.
            with every(SECONDS_BETWEEN_REPORTS, tell):
                yield counts
        finally:
            tell()
            self.send("close", number)


class SendLog(logging.Handler):
    """Sends log records, with arguments and tracebacks as text."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        message = self.format(record)
        values = {**record.__dict__, "msg": message, "args": None, "exc_info": None}
        self._report.send("log", logging.makeLogRecord({**values, "exc_text": None}))


def sendable(error: BaseException) -> BaseException:
    """The error with its traceback as a note; a RuntimeError if it cannot be pickled."""
    if isinstance(error, LLMDistillError):  # for users, who need no traceback
        return error
    note = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # its class may raise anything
        error = RuntimeError(repr(error))
    error.add_note(f"In the stage's own process:\n{note}")
    return error
