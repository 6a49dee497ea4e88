"""One stage in a process of its own: when it ends, the memory of its models is free again.

Workers are forked from a server process that has imported the heavy packages and run nothing, so
that a worker starts in milliseconds and no device was touched before. What a worker logs, counts
and raises comes back through a pipe, and what it prints through another; it dies with the process
that started it.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

from llm_distill.errors import LLMDistillError, ModelError
from llm_distill.runtime.perform import Done, Job, MakeProgress, perform
from llm_distill.runtime.progress import StageProgress

log = logging.getLogger("llm_distill")

SECONDS_BETWEEN_REPORTS = 0.1
SECONDS_TO_STOP = 30.0
SECONDS_FOR_LAST_WORDS = 5.0


@dataclass(frozen=True)
class _Surroundings:
    """What the server process does not know, since it may be older."""

    folder: str
    environ: dict[str, str]
    log_level: int

    @classmethod
    def here(cls) -> _Surroundings:
        return cls(str(Path.cwd()), dict(os.environ), logging.getLogger().level)

    def enter(self) -> None:
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.environ)
        logging.getLogger().setLevel(self.log_level)
        logging.captureWarnings(True)


def perform_in_worker(job: Job, progress: MakeProgress) -> Done:
    """As `perform`, in a process of its own.

    Raises:
        ModelError: the worker was killed, which is what a system without memory does.
        Exception: what the stage raised; its traceback in the worker stands in a note.
    """
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["llm_distill.runtime.preload"])
    ours, theirs = processes.Pipe()
    output, printed = processes.Pipe(duplex=False)
    surroundings = _Surroundings.here()
    arguments = job, surroundings, theirs, printed
    worker = processes.Process(target=_work, args=arguments, daemon=False)
    worker.start()
    theirs.close()
    printed.close()
    listener = threading.Thread(target=_log_output, args=(output,), daemon=True)
    listener.start()
    try:
        done = _follow(ours, progress)
    except BaseException:
        _stop(worker)
        raise
    finally:
        worker.join()
        listener.join(SECONDS_FOR_LAST_WORDS)  # a process that a library left may hold the pipe
    if done is None:
        raise ModelError(_how_it_died(worker.exitcode))
    if isinstance(done, Done):
        return done
    raise done


def _follow(messages: Connection, progress: MakeProgress) -> Done | BaseException | None:
    """Show and log what the worker reports until it ends; None where it died without a word."""
    bars: dict[int, StageProgress] = {}
    with ExitStack() as stack:
        while True:
            try:
                kind, *values = messages.recv()
            except (EOFError, ConnectionResetError):
                return None
            if kind == "log":
                record: logging.LogRecord = values[0]
                logging.getLogger(record.name).handle(record)
            elif kind == "open":
                number, *what = values
                stack.close()  # one bar at a time
                bars = {number: stack.enter_context(progress(*what))}
            elif kind == "advance":
                number, n, tokens, cost = values
                if number in bars:
                    bars[number].advance(n, tokens, cost)
            elif kind == "close":
                stack.close()
            else:
                done: Done | BaseException = values[0]
                return done


def _log_output(output: Connection) -> None:
    """Log what a worker prints: compiled code knows no logger, and would tear the bar."""
    with open(output.fileno(), errors="replace", closefd=False) as lines:
        for line in lines:
            if line.strip():
                log.info("printed: %s", line.rstrip())


def _stop(worker: Any) -> None:
    """End a worker; one that does not heed SIGTERM is killed."""
    worker.terminate()
    worker.join(SECONDS_TO_STOP)
    if worker.is_alive():
        worker.kill()
        worker.join()


def _how_it_died(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        if name == "SIGKILL":
            return (
                "its process was killed (SIGKILL), as the system does when memory runs out; lower "
                "what it needs: engine.batch_size or engine.gpu_memory_utilization of a model, "
                "per_device_train_batch_size of a training, or take dtype: bfloat16"
            )
        return f"its process died of {name}; its log has what it said last"
    return f"its process ended without a result (exit code {code}); its log has what it said last"


# --- in the worker ---


def _work(job: Job, surroundings: _Surroundings, messages: Connection, printed: Connection) -> None:
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
        done: Done | BaseException = perform(job, report.progress)
    except KeyboardInterrupt:
        return
    except BaseException as error:
        done = _sendable(error)
    report.send("done", done)


def _stop_once(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _sendable(error: BaseException) -> BaseException:
    """The error with its traceback as a note; one that cannot be sent, as another that can."""
    if isinstance(error, LLMDistillError):  # a user's mistake; its message says it all
        return error
    note = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class makes of it
        error = RuntimeError(repr(error))
    error.add_note(f"In the stage's own process:\n{note}")
    return error


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


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
    ) -> Iterator[StageProgress]:
        self._opened += 1
        bar = _Bar(self, self._opened)
        self.send("open", self._opened, description, total, unit, done)
        try:
            yield bar
        finally:
            bar.flush()
            self.send("close")


class _Bar:
    """A bar of the parent's, told of progress a few times a second."""

    def __init__(self, report: _Report, number: int) -> None:
        self._report, self._number = report, number
        self._n = self._tokens = 0
        self._cost, self._told = 0.0, time.monotonic()

    def advance(self, n: int = 1, tokens: int = 0, cost: float = 0.0) -> None:
        self._n += n
        self._tokens += tokens
        self._cost = cost
        if time.monotonic() - self._told >= SECONDS_BETWEEN_REPORTS:
            self.flush()

    def flush(self) -> None:
        self._report.send("advance", self._number, self._n, self._tokens, self._cost)
        self._n = self._tokens = 0
        self._told = time.monotonic()


class _Send(logging.Handler):
    """Gives log records to the parent, with their arguments and tracebacks made text."""

    def __init__(self, report: _Report) -> None:
        super().__init__()
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        message = self.format(record)
        values = {**record.__dict__, "msg": message, "args": None, "exc_info": None}
        self._report.send("log", logging.makeLogRecord({**values, "exc_text": None}))
