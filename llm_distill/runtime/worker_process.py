"""What a worker does: the stage's work, and reports to the process that started it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

from llm_distill.doing import shown_by
from llm_distill.runtime.context import StageInputs
from llm_distill.runtime.perform import Done, perform
from llm_distill.runtime.ranks import perform_on_ranks
from llm_distill.runtime.reports import Report, SendLog, sendable
from llm_distill.stage import Stage


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
    report = Report(messages)
    logging.getLogger().addHandler(SendLog(report))
    report.send("begun")
    try:
        launch = stage.launched()
        with shown_by(report.progress):
            done: Done | BaseException = (
                perform(stage, inputs, report.progress)
                if launch is None
                else perform_on_ranks(stage, inputs, launch, report)
            )
    except KeyboardInterrupt:
        return
    except BaseException as error:
        done = sendable(error)
    report.send("done", done)


def _stop_once(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.killpg(0, signal.SIGKILL)
