"""What a worker does: the stage's work, and reports to the process that started it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

from llm_distill.errors import LLMDistillError
from llm_distill.runtime.context import StageInputs
from llm_distill.runtime.perform import Done, perform
from llm_distill.runtime.progress import Throttled
from llm_distill.stage import Progress, Stage

SECONDS_BETWEEN_REPORTS = 0.1


@dataclass(frozen=True)
class Surroundings:
    """What the server process does not know, because it may have been started earlier."""

    folder: str
    environ: dict[str, str]
    log_level: int

    @classmethod
    def here(cls) -> Surroundings:
        return cls(str(Path.cwd()), dict(os.environ), logging.getLogger().level)

    def enter(self) -> None:
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.environ)
        logging.getLogger().setLevel(self.log_level)
        logging.captureWarnings(True)


def work(
    stage: Stage,
    inputs: StageInputs,
    surroundings: Surroundings,
    messages: Connection,
    printed: Connection,
) -> None:
    """Run in the worker. messages: for reports; printed: for whatever is printed."""
    os.setpgid(0, 0)  # with whatever processes libraries start here, which then end with it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which decides
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop_once)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    for descriptor in (1, 2):
        os.dup2(printed.fileno(), descriptor)
    printed.close()
    surroundings.enter()
    report = _Report(messages)
    logging.getLogger().addHandler(_Send(report))
    try:
        done: Done | BaseException = perform(stage, inputs, report.progress)
    except KeyboardInterrupt:
        return
    except BaseException as error:
        done = _sendable(error)
    report.send("done", done)


def _stop_once(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _sendable(error: BaseException) -> BaseException:
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


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.killpg(0, signal.SIGKILL)


class _Report:
    """Sends what happens to the parent. Threads of libraries may log at the same time."""

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

        def tell(bar: Throttled) -> None:
            self.send("advance", number, bar.n, bar.tokens, bar.cost)
            bar.n = bar.tokens = 0

        bar = Throttled(SECONDS_BETWEEN_REPORTS, tell)
        self.send("open", number, description, total, unit, done)
        try:
            yield bar
        finally:
            bar.flush()
            self.send("close")


class _Send(logging.Handler):
    """Sends log records to the parent, with arguments and tracebacks as text."""

    def __init__(self, report: _Report) -> None:
        super().__init__()
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        message = self.format(record)
        values = {**record.__dict__, "msg": message, "args": None, "exc_info": None}
        self._report.send("log", logging.makeLogRecord({**values, "exc_text": None}))
