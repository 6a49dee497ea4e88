"""A run's record: which artifacts it used, with each stage's log and the resolved settings.

runs/arte/20260117-093012/
  run.json          state of the run and of each stage; rewritten as a whole after each stage
  pipeline.yaml     the settings after extends, profile, --set and ${VAR}
  logs/<stage>.log
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from llm_distill.errors import WorkspaceError, nearest
from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.runtime.artifact import Artifact, Workspace, write_durably

State = Literal["waiting", "running", "reused", "done", "failed", "interrupted"]


@dataclass
class StageRecord:
    """One line of `llm-distill status`."""

    state: State = "waiting"
    artifact: str | None = None
    rows: int | None = None
    dropped: dict[str, int] = field(default_factory=dict)
    tokens: int = 0
    seconds: float = 0.0
    why: str = ""


@dataclass
class RunRecord:
    """The content of run.json, and where it lies."""

    directory: Path
    name: str
    state: State
    pipeline: str
    profile: str | None
    seed: int
    pid: int
    started: float
    stages: dict[str, StageRecord]

    @classmethod
    def begin(cls, workspace: Workspace, pipeline: PipelineConfig, names: list[str]) -> RunRecord:
        """Make the run's folder and write down the settings."""
        folder = workspace.runs / pipeline.name
        folder.mkdir(parents=True, exist_ok=True)
        directory = _new_directory(folder)
        (directory / "logs").mkdir()
        text = yaml.safe_dump(pipeline.resolved, sort_keys=False, allow_unicode=True)
        write_durably(directory / "pipeline.yaml", text)
        record = cls(
            directory=directory,
            name=f"{pipeline.name}/{directory.name}",
            state="running",
            pipeline=pipeline.source,
            profile=pipeline.profile,
            seed=pipeline.seed,
            pid=os.getpid(),
            started=time.time(),
            stages={name: StageRecord() for name in names},
        )
        record.save()
        return record

    def save(self) -> None:
        values = asdict(self)
        del values["directory"]
        write_durably(self.directory / "run.json", json.dumps(values, indent=2) + "\n")

    def used(self, name: str, artifact: Artifact, state: State, seconds: float, why: str) -> None:
        """Note the artifact that a stage of this run stands on."""
        manifest = artifact.manifest
        self.stages[name] = StageRecord(
            state=state,
            artifact=artifact.path.name,
            rows=manifest.get("rows_out"),
            dropped=manifest.get("dropped", {}),
            tokens=manifest.get("tokens_out", 0) if state == "done" else 0,
            seconds=round(seconds, 3),
            why=why,
        )
        self.save()

    @contextmanager
    def logging(self, stage: str) -> Iterator[None]:
        """Send what is logged meanwhile to the stage's own file."""
        handler = logging.FileHandler(self.directory / "logs" / f"{stage}.log", encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root = logging.getLogger()
        level = root.level
        root.addHandler(handler)
        root.setLevel(min(level, logging.INFO) if level else logging.INFO)
        logging.captureWarnings(True)
        try:
            yield
        finally:
            logging.captureWarnings(False)
            root.setLevel(level)
            root.removeHandler(handler)
            handler.close()


def read_run(workspace: Workspace, name: str | None) -> RunRecord:
    """A run by `pipeline/time`, a pipeline's newest, or with None the newest of all.

    Raises:
        WorkspaceError: there is none of that name.
    """
    runs = sorted(workspace.runs.glob("*/*/run.json"), key=lambda path: path.parent.name)
    wanted = [
        path
        for path in runs
        if name in (None, path.parent.parent.name, f"{path.parent.parent.name}/{path.parent.name}")
    ]
    if not wanted:
        if not runs:
            raise WorkspaceError(f"no run in {workspace.runs} yet")
        names = {path.parent.parent.name for path in runs}
        raise WorkspaceError(f"no run '{name}' in {workspace.runs}; {nearest(str(name), names)}")
    path = wanted[-1]
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        stages = {n: StageRecord(**s) for n, s in values.pop("stages").items()}
        return RunRecord(directory=path.parent, stages=stages, **values)
    except (ValueError, TypeError, KeyError) as error:
        raise WorkspaceError(f"{path} is damaged: {error}") from error


def _new_directory(folder: Path) -> Path:
    """A folder named by the time; two runs begun in one second get different ones."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for attempt in range(1000):
        directory = folder / (stamp if attempt == 0 else f"{stamp}-{attempt}")
        try:
            directory.mkdir()
            return directory
        except FileExistsError:
            continue
    raise WorkspaceError(f"cannot make a run folder in {folder}")
