"""Each stage's log: of this run, or for a reused stage of the run that made its artifact."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from urllib.parse import quote

from llm_distill.report.collect import RunView, StageView
from llm_distill.runtime.record import RunRecord, runs_of

MOST_LINES = 40
MOST_LOG_CHARACTERS = 4000
MOST_BYTES = 65_536
"""That are read of a log."""
LOOKED_AT = 20
"""How many runs back to look for the one that made an artifact."""
UNSEEN = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[^\S\n\t ]|[\x00-\x08\x0e-\x1f\x7f]")
"""Colors for a terminal, and what a page does not show."""


@dataclass(frozen=True)
class Log:
    """The end of a stage's log. run: the run that wrote it; is_whole: nothing is before it."""

    path: Path
    run: str
    text: str
    is_whole: bool

    def address(self, folder: Path) -> str:
        """Its address in a page that lies in the folder."""
        return quote(Path(os.path.relpath(self.path, folder)).as_posix())


def stage_logs(run: RunView) -> Mapping[str, Log]:
    """The log of each stage that has one."""
    found = {}
    for stage in run.stages:
        made = _made_by(stage, run)
        log = None if made is None else _read(made[0].log_of(made[1]), made[0].name)
        if log is not None:
            found[stage.name] = log
    return found


def _made_by(stage: StageView, run: RunView) -> tuple[RunRecord, str] | None:
    """The run that did the stage's work, and the stage's name there."""
    if stage.state != "reused":
        return run.record, stage.name
    if stage.manifest is None:
        return None
    pipeline = stage.manifest.pipeline or run.record.name.partition("/")[0]
    for other in islice(runs_of(run.workspace, pipeline), LOOKED_AT):
        for name, record in other.stages.items():
            if record.state == "done" and record.artifact == stage.record.artifact:
                return other, name
    return None


def _read(path: Path, run: str) -> Log | None:
    """The end of a file; None if it is empty or not there."""
    try:
        with path.open("rb") as file:
            start = max(0, file.seek(0, os.SEEK_END) - MOST_BYTES)
            file.seek(start)
            written = file.read().decode("utf-8", "replace")
    except OSError:
        return None
    lines = UNSEEN.sub("", written).strip("\n").split("\n")
    text = "\n".join(lines[-MOST_LINES:])
    shown = text[-MOST_LOG_CHARACTERS:]
    is_whole = start == 0 and len(lines) <= MOST_LINES and len(text) == len(shown)
    return Log(path, run, shown, is_whole) if shown.strip() else None
