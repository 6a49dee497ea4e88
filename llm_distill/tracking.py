"""Experiment trackers: which there are, where they write, and under which names.

Each has environment variables that say where it writes. What the user has set stays; the rest
points into the workspace while the tracker is in use. So nothing is written to the current folder,
and only the user's own settings send anything over a network.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Tracker = Literal["none", "trackio", "wandb", "tensorboard", "mlflow"]

log = logging.getLogger("llm_distill")

TENSORBOARD_FOLDER = "TENSORBOARD_LOGGING_DIR"


@dataclass(frozen=True)
class TrackedRun:
    """The name of a run or a training in a tracker.

    project: the pipeline's name.
    name: `<pipeline>/<time>` for a run's own figures, with `/<stage>` for a training's curves.
    folder: where trackers write unless the user has said where.
    """

    project: str
    name: str
    folder: Path

    def of(self, stage: str) -> TrackedRun:
        return TrackedRun(self.project, f"{self.name}/{stage}", self.folder)


def not_installed(tracker: Tracker) -> str | None:
    """What to say if the tracker's package is missing; it is not imported."""
    from importlib.util import find_spec

    if tracker == "none" or find_spec(tracker) is not None:
        return None
    return (
        f"{tracker} is not installed; pip install 'llm-distill[{tracker}]', or set report_to: none"
    )


def how_to_look(tracker: Tracker, run: TrackedRun) -> str | None:
    """The command that shows what was sent; None if the tracker says itself where to look."""
    values = variables(tracker, run)
    if tracker == "tensorboard":
        return f"tensorboard --logdir '{tensorboard_root(run)}'"
    if tracker == "trackio":
        return f"TRACKIO_DIR='{values['TRACKIO_DIR']}' trackio show --project {run.project}"
    if tracker == "mlflow":
        return f"mlflow ui --backend-store-uri '{values['MLFLOW_TRACKING_URI']}'"
    return None


def tensorboard_root(run: TrackedRun) -> Path:
    """The folder that has one folder per run, named as the run."""
    own = os.environ.get(TENSORBOARD_FOLDER)
    return Path(own).expanduser() if own else run.folder.absolute() / "tensorboard"


def variables(tracker: Tracker, run: TrackedRun) -> dict[str, str]:
    """The tracker's environment variables: the user's if they are set, else these."""
    folder = run.folder.absolute()
    ours: dict[str, str] = {}
    if tracker == "trackio":
        ours = {"TRACKIO_DIR": str(folder / "trackio")}
    elif tracker == "wandb":
        ours = {
            "WANDB_DIR": str(folder),  # it makes a folder `wandb` there
            "WANDB_PROJECT": run.project,
            "WANDB_ERROR_REPORTING": "false",
        }
    elif tracker == "mlflow":
        ours = {
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
            "MLFLOW_EXPERIMENT_NAME": run.project,
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
    values = {name: os.environ.get(name) or value for name, value in ours.items()}
    if tracker == "tensorboard":  # in one folder all runs would become one curve
        values[TENSORBOARD_FOLDER] = str(tensorboard_root(run) / run.name)
    return values


@contextmanager
def environment(tracker: Tracker, run: TrackedRun) -> Iterator[None]:
    """Set the tracker's variables, and restore the environment afterwards."""
    values = variables(tracker, run)
    before = {name: os.environ.get(name) for name in values}
    if values:
        run.folder.mkdir(parents=True, exist_ok=True)
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def sent(tracker: Tracker, run: TrackedRun) -> Iterator[None]:
    """Send a training's curves to the tracker, and end its run there however training ends."""
    failed = True
    with environment(tracker, run):
        try:
            yield
            failed = False
        finally:
            try:
                end_open_run(tracker, failed=failed)
            except Exception:  # the model is saved, or the error that ended training matters more
                log.warning("report_to: %s: its run could not be ended", tracker, exc_info=True)


def end_open_run(tracker: Tracker, *, failed: bool) -> None:
    """End what is still open in this process, so that all of it is written.

    A stage's process ends without Python's exit hooks, which trackers rely on.
    """
    module = sys.modules.get(tracker)
    if module is None:
        return
    if tracker == "wandb" and module.run is not None:
        module.finish(exit_code=int(failed))
    elif tracker == "mlflow" and module.active_run() is not None:
        module.end_run("FAILED" if failed else "FINISHED")
    elif tracker == "trackio" and module.context_vars.current_run.get() is not None:
        module.finish()
    if tracker == "mlflow":
        module.flush_async_logging()
