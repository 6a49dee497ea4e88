"""One of the processes that share a stage's work: `python -m`, as accelerate starts it."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path

from llm_distill.doing import shown_by
from llm_distill.runtime.logs import log_file
from llm_distill.runtime.perform import Done, perform
from llm_distill.runtime.ranks import MACHINE, to_worker
from llm_distill.runtime.reports import Report, SendLog, sendable
from llm_distill.stage import Progress

PATIENCE = timedelta(hours=2)
"""How long ranks wait for one of them. One that has died is noticed by who started it."""


def main() -> None:
    rank = int(os.environ["RANK"])
    worker = to_worker()
    worker.send((rank, os.environ.get(MACHINE)))
    stage, inputs, level = worker.recv()
    threading.Thread(target=_die_with_worker, args=(worker,), daemon=True).start()
    report = Report(worker)
    show = report.progress if rank == 0 else no_progress
    _log(report, rank, inputs.log, level)
    try:
        _join()
        with shown_by(show):
            done: Done | BaseException = perform(stage, inputs, show)
    except BaseException as error:
        done = sendable(error)
        if rank:
            logging.getLogger("llm_distill").exception("rank %s failed", rank)
    report.send("done", done)
    os._exit(isinstance(done, BaseException))  # a rank that waits for others would not end


def _join() -> None:
    """Meet the others, on this process's own device."""
    from accelerate import DistributedType, PartialState

    on_cpu = os.environ.get("ACCELERATE_USE_CPU") == "true"
    state = PartialState(cpu=on_cpu, timeout=PATIENCE)
    if on_cpu and os.environ.get("ACCELERATE_USE_FSDP") == "true":
        # accelerate would not divide the model, and not say so; torch can on CPUs as well.
        state.distributed_type = DistributedType.MULTI_GPU


def _log(report: Report, rank: int, stage_log: Path | None, level: int) -> None:
    """What rank 0 logs is the stage's log; each of the others has its own beside it."""
    root = logging.getLogger()
    root.setLevel(level)
    logging.captureWarnings(True)
    if rank == 0:
        root.addHandler(SendLog(report))
    elif stage_log is not None:
        own = stage_log.with_suffix(f".rank{rank}.log")
        root.addHandler(log_file(own))
        with own.open("ab") as printed:
            for descriptor in (1, 2):
                os.dup2(printed.fileno(), descriptor)


def _die_with_worker(worker: Connection) -> None:
    with suppress(EOFError, OSError):
        worker.recv()  # nothing more is sent: it ends
    os.killpg(0, signal.SIGKILL)  # its own session: with the processes that libraries started


@contextmanager
def no_progress(description: str, total: int | None, unit: str, done: int) -> Iterator[Progress]:
    yield _Nothing()


class _Nothing:
    def advance(
        self, n: int = 1, tokens: int = 0, cost: float = 0.0, requests: int | None = None
    ) -> None: ...


if __name__ == "__main__":
    main()
