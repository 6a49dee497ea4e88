"""A stage's work by several processes (ranks), which accelerate starts and watches in its worker.

Each connects to the worker, is given the stage and its inputs, and does the same work; accelerate
and torch divide it. What rank 0 reports is the stage's report; the others write logs of their own.
A rank whose connection ends ends too, so none outlives the worker, whatever ends that.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import threading
from contextlib import suppress
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from llm_distill.errors import LLMDistillError, ModelError, first_line
from llm_distill.runtime.context import StageInputs
from llm_distill.runtime.perform import Done
from llm_distill.runtime.reports import Report, sendable
from llm_distill.stage import Launch, Stage

ADDRESS, KEY = "LLM_DISTILL_WORKER", "LLM_DISTILL_WORKER_KEY"
"""Environment variables that tell a rank where its worker listens."""
MODULE = "llm_distill.runtime.rank"
SECONDS_BETWEEN_LOOKS = "0.2"
"""At whether a rank has ended; the others are stopped then."""

log = logging.getLogger("llm_distill")


def perform_on_ranks(stage: Stage, inputs: StageInputs, launch: Launch, report: Report) -> Done:
    """As `perform`, on the processes of `launch`.

    Raises:
        ModelError: a rank was killed, or could not be started.
        Exception: what the stage raised on a rank.
        KeyboardInterrupt: this worker is to stop.
    """
    with TemporaryDirectory(prefix="llm-distill-") as folder:  # a socket's path must be short
        ranks = _Ranks(Path(folder), stage, inputs, report)
        try:
            _tell(ranks, launch)
            _launch(launch)
        except Exception as error:
            raise ranks.why_ended(error, launch) from error
        finally:
            ranks.close()
    done = ranks.done.get(0)
    if not isinstance(done, Done):
        raise ModelError("rank 0 ended without a result; see the end of the stage's log")
    return done


class _Ranks:
    """The processes as they connect. done: what each left, or raised, in the order of coming."""

    def __init__(self, folder: Path, stage: Stage, inputs: StageInputs, report: Report) -> None:
        self.address, self.key = str(folder / "worker"), secrets.token_bytes(16)
        self.done: dict[int, Any] = {}
        self._job = stage, inputs, logging.getLogger().level
        self._report = report
        self._listener = Listener(self.address, "AF_UNIX", authkey=self.key)
        threading.Thread(target=self._accept, name="ranks", daemon=True).start()
        self._following: list[threading.Thread] = []

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except OSError:  # it was closed
                return
            follow = threading.Thread(target=self._follow, args=(connection,), daemon=True)
            self._following.append(follow)
            follow.start()

    def _follow(self, messages: Connection) -> None:
        """Pass on what rank 0 reports, until the process ends."""
        with suppress(EOFError, OSError):
            rank: int = messages.recv()
            messages.send(self._job)
            while True:
                kind, *values = messages.recv()
                if kind == "done":
                    self.done[rank] = values[0]
                elif rank == 0:
                    self._report.send(kind, *values)

    def close(self) -> None:
        self._listener.close()

    def why_ended(self, error: Exception, launch: Launch) -> BaseException:
        """What to tell of processes that ended badly: the cause, not what followed from it."""
        from torch.distributed.elastic.multiprocessing.api import SignalException
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

        if isinstance(error, SignalException):
            return KeyboardInterrupt()
        if not isinstance(error, ChildFailedError):
            return sendable(error)
        for thread in self._following:
            thread.join(1.0)
        # Those that accelerate stopped because of another were sent SIGTERM.
        killed = {
            rank: -failure.exitcode
            for rank, failure in sorted(error.failures.items())
            if failure.exitcode < 0 and -failure.exitcode != signal.SIGTERM
        }
        raised = [found for found in self.done.values() if isinstance(found, BaseException)]
        for found in raised:
            if isinstance(found, LLMDistillError):
                return found
        if killed:
            rank, number = next(iter(killed.items()))
            return ModelError(_killed(rank, number, launch))
        if raised:
            return raised[0]
        rank, failure = error.get_first_failure()
        return ModelError(
            f"rank {rank} of {launch.processes} ended with exit code {failure.exitcode} "
            f"({first_line(error)}); see the end of its log"
        )


def _killed(rank: int, number: int, launch: Launch) -> str:
    name = signal.Signals(number).name
    said = f"rank {rank} of {launch.processes} was killed ({name})"
    if number == signal.SIGKILL:
        said += f", as the system does when memory runs out; {launch.advice}"
    return f"{said}. The next run goes on from the last checkpoint"


def _tell(ranks: _Ranks, launch: Launch) -> None:
    """What the ranks are told by variables; this process ends with them."""
    import torch

    os.environ.update({ADDRESS: ranks.address, KEY: ranks.key.hex()})
    if launch.on_cpu:
        os.environ["ACCELERATE_USE_CPU"] = "true"  # its option for this would call mpirun
        threads = max(1, torch.get_num_threads() // launch.processes)
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))


def _launch(launch: Launch) -> None:
    """Run accelerate's launcher in this process until all ranks have ended."""
    from accelerate.commands.launch import launch_command, launch_command_parser

    fixed = (
        "--mixed_precision=no",  # the training's own settings say it
        "--dynamo_backend=no",
        "--main_process_port=0",  # any that is free
        "--max_restarts=0",
        f"--monitor_interval={SECONDS_BETWEEN_LOOKS}",
        "--module",
        MODULE,
    )
    launch_command(launch_command_parser().parse_args([*launch.arguments, *fixed]))
