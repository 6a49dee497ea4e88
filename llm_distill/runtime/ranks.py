"""A stage's work by several processes (ranks), which accelerate starts and watches in its worker.

Each connects to the worker, is given the stage and its inputs, and does the same work; accelerate
and torch divide it. What rank 0 reports is the stage's report; the others write logs of their own.
A rank whose connection ends ends too, so none outlives the worker, whatever ends that. On several
machines accelerate starts them on each, where Ray has a place for it (`machines`).
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import (
    Client,
    Connection,
    Listener,
    answer_challenge,
    deliver_challenge,
)
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from llm_distill.errors import LLMDistillError, ModelError, first_line
from llm_distill.runtime.context import StageInputs
from llm_distill.runtime.perform import Done
from llm_distill.runtime.reports import Report, sendable
from llm_distill.stage import Launch, Stage

ADDRESS, KEY = "LLM_DISTILL_WORKER", "LLM_DISTILL_WORKER_KEY"
MACHINE = "LLM_DISTILL_MACHINE"
"""Environment variables that tell a rank where its worker listens, and which of several machines it
is on."""
Address = str | tuple[str, int]
"""Of a socket in the file system, or a host and port."""
MODULE = "llm_distill.runtime.rank"
SECONDS_BETWEEN_LOOKS = "0.2"
"""At whether a rank has ended; the others are stopped then."""

log = logging.getLogger("llm_distill")


def to_worker() -> Connection:
    """A rank's connection to the worker, which its environment names."""
    where, key = os.environ.pop(ADDRESS), bytes.fromhex(os.environ.pop(KEY))
    host, _, port = where.rpartition(":")
    worker = Client((host, int(port)) if port.isdigit() else where)
    answer_challenge(worker, key)
    deliver_challenge(worker, key)
    return worker


def perform_on_ranks(stage: Stage, inputs: StageInputs, launch: Launch, report: Report) -> Done:
    """As `perform`, on the processes of `launch`.

    Raises:
        ModelError: a rank was killed, or could not be started.
        Exception: what the stage raised on a rank.
        KeyboardInterrupt: this worker is to stop.
    """
    with TemporaryDirectory(prefix="llm-distill-") as folder:  # a socket's path must be short
        address: Address = str(Path(folder) / "worker")
        if launch.machines > 1:
            from llm_distill.runtime import machines

            machines.connect_to_cluster()
            address = (machines.own_address(), 0)
        ranks = Ranks(address, stage, inputs, report)
        try:
            if launch.machines > 1:
                machines.launch_on_each(ranks, launch, inputs.work_dir)
            else:
                launch_here(ranks.variables(), launch)
        except Exception as error:
            raise ranks.why_ended(error, launch) from error
        finally:
            ranks.close()
    done = ranks.done.get(0)
    if not isinstance(done, Done):
        raise ModelError("rank 0 ended without a result; see the end of the stage's log")
    return done


class Ranks:
    """The processes as they connect.

    address: of a socket, or (host, 0) for any port that is free.
    done: what each left, or raised, in the order of coming.
    machines: of each rank its machine's address, where there are several.
    """

    def __init__(self, address: Address, stage: Stage, inputs: StageInputs, report: Report) -> None:
        self._key = secrets.token_bytes(16)
        self.done: dict[int, Any] = {}
        self.machines: dict[int, str | None] = {}
        self._job = stage, inputs, logging.getLogger().level
        self._report = report
        self._listener = Listener(address)
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
        with suppress(EOFError, OSError, AuthenticationError):
            deliver_challenge(messages, self._key)
            answer_challenge(messages, self._key)
            rank, self.machines[rank] = messages.recv()
            messages.send(self._job)
            while True:
                kind, *values = messages.recv()
                if kind == "done":
                    self.done[rank] = values[0]
                elif rank == 0:
                    self._report.send(kind, *values)

    def variables(self) -> dict[str, str]:
        """Of the environment, by which a rank finds this."""
        where: Address = self._listener.address
        address = where if isinstance(where, str) else f"{where[0]}:{where[1]}"
        return {ADDRESS: address, KEY: self._key.hex()}

    def close(self) -> None:
        self._listener.close()

    def why_ended(self, error: Exception, launch: Launch) -> BaseException:
        """What to tell of processes that ended badly: the cause, not what followed from it."""
        from torch.distributed.elastic.multiprocessing.api import SignalException

        if isinstance(error, SignalException):
            return KeyboardInterrupt()
        if not isinstance(error, RanksFailedError):
            return sendable(error)
        for thread in self._following:
            thread.join(1.0)
        # Those that accelerate stopped because of another were sent SIGTERM.
        killed = [
            (rank, -code)
            for rank, code in sorted(error.exit_codes.items())
            if code < 0 and -code != signal.SIGTERM
        ]
        raised = [found for found in self.done.values() if isinstance(found, BaseException)]
        for rank, found in self.done.items():
            if isinstance(found, LLMDistillError):
                return _on_its_machine(found, self.machines.get(rank))
        if killed:
            return ModelError(_killed(*killed[0], launch))
        if raised:
            return raised[0]
        rank, code = next(iter(error.exit_codes.items()))
        return ModelError(
            f"rank {rank} of {launch.processes} ended with exit code {code} ({error}); see the end "
            "of its log"
        )


class RanksFailedError(Exception):
    """Processes ended badly. exit_codes: of each, by rank, the first that failed first."""

    def __init__(self, exit_codes: dict[int, int], said: str) -> None:
        super().__init__(exit_codes, said)  # so that it can be pickled
        self.exit_codes, self.said = exit_codes, said

    def __str__(self) -> str:
        return self.said


def _on_its_machine(error: LLMDistillError, machine: str | None) -> LLMDistillError:
    """The error with the machine that it was raised on: files can be missing on one alone."""
    if machine is not None:
        error.args = (f"on machine {machine}: {error.args[0]}", *error.args[1:])
    return error


def _killed(rank: int, number: int, launch: Launch) -> str:
    name = signal.Signals(number).name
    said = f"rank {rank} of {launch.processes} was killed ({name})"
    if number == signal.SIGKILL:
        said += f", as the system does when memory runs out; {launch.advice}"
    return f"{said}. The next run goes on from the last checkpoint"


def launch_here(variables: dict[str, str], launch: Launch, place: Sequence[str] = ()) -> None:
    """Run accelerate's launcher in this process until all ranks of this machine have ended.

    variables: see `Ranks.variables`. place: of this machine among several, as launcher's arguments.

    Raises:
        RanksFailedError: one of them ended badly, and the others were stopped.
    """
    import torch
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    os.environ.update(variables)
    if launch.on_cpu:
        os.environ["ACCELERATE_USE_CPU"] = "true"  # its option for this would call mpirun
        threads = max(1, torch.get_num_threads() * launch.machines // launch.processes)
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    fixed = (
        "--mixed_precision=no",  # the training's own settings say it
        "--dynamo_backend=no",
        "--max_restarts=0",
        f"--monitor_interval={SECONDS_BETWEEN_LOOKS}",
        *(place or ("--main_process_port=0",)),  # any that is free
        "--module",
        MODULE,
    )
    try:
        with TemporaryDirectory(prefix="llm-distill-") as logs:  # torch would leave one behind
            given = [*launch.arguments, f"--log_dir={logs}", *fixed]
            launch_command(launch_command_parser().parse_args(given))
    except ChildFailedError as error:
        first = error.get_first_failure()[0]
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        raise RanksFailedError({first: codes.pop(first), **codes}, first_line(error)) from error
