"""Sends a run's own figures to an experiment tracker, through accelerate's trackers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any

from llm_distill.errors import ConfigError
from llm_distill.tracking import (
    TrackedRun,
    Tracker,
    end_open_run,
    environment,
    how_to_look,
    tensorboard_root,
)

log = logging.getLogger("llm_distill")

Send = Callable[[Mapping[str, float], int], None]
"""Sends figures by name, and which step of the run they are of."""


@contextmanager
def report_to(tracker: Tracker, run: TrackedRun, says: Callable[[str], None]) -> Iterator[Send]:
    """Open the run in the tracker, and end it there, as failed where an error passes through.

    says: is told where to look, and of figures that could not be sent: an unreachable tracker does
    not end a run.

    Raises:
        ConfigError: the tracker does not start, for instance because nobody is logged in.
    """
    if tracker == "none":
        yield lambda values, step: None
        return
    opened = _start(tracker, run)
    look = how_to_look(tracker, run)
    if look:
        says(f"figures and curves: {look}")

    def send(values: Mapping[str, float], step: int) -> None:
        try:
            with environment(tracker, run):
                opened.log(dict(values), step=step)
        except Exception as error:
            log.warning("report_to: %s", tracker, exc_info=True)
            says(f"report_to: {tracker}: figures were not sent ({error})")

    try:
        yield send
    except BaseException:
        _end(tracker, run, None, says)
        raise
    _end(tracker, run, opened, says)


def _start(tracker: Tracker, run: TrackedRun) -> Any:
    """The tracker from accelerate, started. Its output goes to the log: it would break a bar."""
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    PartialState(cpu=True)  # the trackers' logger asks for it; the devices are the stages'
    kind, root = LOGGER_TYPE_TO_CLASS[tracker], tensorboard_root(run)
    printed = StringIO()
    try:
        with environment(tracker, run), redirect_stdout(printed):
            if tracker == "tensorboard":
                opened = kind(run.name, root)
            elif tracker == "mlflow":
                opened = kind(run.project, run_name=run.name)
            else:
                opened = kind(run.project, name=run.name)
            opened.start()
    except Exception as error:
        raise ConfigError(
            f"report_to: {tracker} does not start ({error}); fix that, or set report_to: none"
        ) from error
    log.info("%s: %s", tracker, printed.getvalue())
    return opened


def _end(tracker: Tracker, run: TrackedRun, opened: Any, says: Callable[[str], None]) -> None:
    """opened: None if the run has failed, which accelerate's trackers cannot express."""
    try:
        with environment(tracker, run), redirect_stdout(StringIO()):
            if opened is not None:
                opened.finish()
            end_open_run(tracker, failed=opened is None)
    except Exception as error:
        log.warning("report_to: %s", tracker, exc_info=True)
        says(f"report_to: {tracker}: its run could not be ended ({error})")
