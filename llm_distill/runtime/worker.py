"""One stage in a process of its own: when it ends, the memory of its models is free again.

Workers are forked from a server process that has only imported the heavy packages, so that a worker
starts in milliseconds and on an untouched device. What a worker logs, counts and raises comes back
through a pipe, and what it prints through another; it dies with the process that started it. It
imports nothing of the program that started it: a script, a notebook, or text on standard input.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from contextlib import ExitStack, suppress
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from types import ModuleType
from typing import Any

from llm_distill.errors import ModelError
from llm_distill.runtime.context import StageInputs
from llm_distill.runtime.perform import Done
from llm_distill.runtime.progress import MakeProgress
from llm_distill.runtime.worker_process import Surroundings, work
from llm_distill.stage import Progress, Stage

log = logging.getLogger("llm_distill")

SECONDS_TO_STOP = 30.0
SECONDS_FOR_LAST_WORDS = 5.0
_starting = threading.Lock()


def perform_in_worker(stage: Stage, inputs: StageInputs, progress: MakeProgress) -> Done:
    """As `perform`, in a process of its own.

    Raises:
        ModelError: the worker was killed, which is what a system without memory does.
        Exception: what the stage raised; a note has its traceback in the worker.
    """
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["llm_distill.runtime.preload"])
    ours, theirs = processes.Pipe()
    output, printed = processes.Pipe(duplex=False)
    arguments = stage, inputs, Surroundings.here(), theirs, printed
    worker = _Worker(target=work, args=arguments, daemon=False)
    try:
        worker.start()
    except BaseException:  # one that is begun after all ends when it finds nobody to report to
        ours.close()
        output.close()
        raise
    finally:
        theirs.close()
        printed.close()
    listener = threading.Thread(target=_log_output, args=(output,), daemon=True)
    listener.start()
    try:
        done = _follow(ours, progress)
        if done is None:
            _end_group(worker)
    except BaseException:
        _stop(worker)
        raise
    finally:
        worker.join()
        listener.join(SECONDS_FOR_LAST_WORDS)  # a process that a library left may hold the pipe
    if isinstance(done, Done):
        return done
    raise done or ModelError(_how_it_died(worker.exitcode))


class _Worker(ForkServerProcess):
    """A process that does not import the main module of the program that starts it.

    multiprocessing would do so, which runs the user's script again: one without a guard would begin
    its pipeline again there and wait for itself, and one from standard input has no file. Nothing
    that a worker is sent is defined in it.
    """

    def start(self) -> None:
        with _starting:
            main = sys.modules["__main__"]
            self._show_main = partial(sys.modules.__setitem__, "__main__", main)
            sys.modules["__main__"] = ModuleType("__main__")
            try:
                super().start()
            finally:
                self._show_main()

    def __getstate__(self) -> dict[str, Any]:
        """What is sent, after what the new process has to import: the first start takes seconds."""
        self._show_main()
        return {name: value for name, value in vars(self).items() if name != "_show_main"}


def _follow(messages: Connection, progress: MakeProgress) -> Done | BaseException | None:
    """Show and log what the worker reports until it ends; None if it just died."""
    bars: dict[int, Progress] = {}
    closing: dict[int, ExitStack] = {}
    with ExitStack() as stack:
        starts = stack.enter_context(ExitStack())
        starts.enter_context(progress("start a process for it", None, "", 0))
        while True:
            try:
                kind, *values = messages.recv()
            except (EOFError, ConnectionResetError):
                return None
            if kind == "begun":
                starts.close()
            elif kind == "log":
                record: logging.LogRecord = values[0]
                logging.getLogger(record.name).handle(record)
            elif kind == "open":
                number, *what = values
                closing[number] = stack.enter_context(ExitStack())
                bars[number] = closing[number].enter_context(progress(*what))
            elif kind == "advance":
                number, *counts = values
                bars[number].advance(*counts)
            elif kind == "close":
                closing[values[0]].close()
            else:
                done: Done | BaseException = values[0]
                return done


def _log_output(output: Connection) -> None:
    """Log what a worker prints: compiled code has no logger, and would break the bar."""
    with open(output.fileno(), errors="replace", closefd=False) as lines:
        for line in lines:
            if line.strip():
                log.info("printed: %s", line.rstrip())


def _stop(worker: Any) -> None:
    """End a worker; kill one that ignores SIGTERM."""
    worker.terminate()
    worker.join(SECONDS_TO_STOP)
    _end_group(worker)


def _end_group(worker: Any) -> None:
    """End a worker that is gone, or does not go, and the processes that libraries started in it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(worker.pid, signal.SIGKILL)
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
        return f"its process died of {name}; see the end of its log"
    return f"its process ended without a result (exit code {code}); see the end of its log"
