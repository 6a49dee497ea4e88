"""A run's record: which artifacts it used, with each stage's log and the resolved settings.

runs/arte/20260117-093012/
  run.json          state of the run and of each stage; rewritten as a whole after each stage
  heartbeat         touched while the run lives
  pipeline.yaml     the settings after extends, profile, --set and ${VAR}
  logs/<stage>.log
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, Field, ValidationError

from llm_distill.digests import fingerprint
from llm_distill.errors import WorkspaceError, nearest
from llm_distill.manifest import ArtifactName
from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.runtime.artifact import Artifact, Workspace
from llm_distill.runtime.disk import disk_explained, write_durably
from llm_distill.runtime.liveness import Process, beating
from llm_distill.runtime.logs import log_file
from llm_distill.runtime.loops import Ended, LoopRecord
from llm_distill.secrets import without_secrets

log = logging.getLogger("llm_distill")

SCHEMA_VERSION = 1
SHOWN_RUNS = 10
LAST_YEAR = 253_370_764_800.0
"""Seconds; of the year 9999, after which no calendar goes."""
RECORD, HEARTBEAT = "run.json", "heartbeat"

State = Literal["waiting", "running", "reused", "done", "failed", "interrupted"]


# Both models ignore unknown keys: what a newer version wrote can still be shown.
class StageRecord(BaseModel, extra="ignore"):
    """One line of `llm-distill status`.

    requests, tokens, cost: what this run asked, had written and paid, also before it failed.
    """

    state: State = "waiting"
    artifact: ArtifactName | None = None
    rows: int | None = None
    dropped: dict[str, int] = Field(default_factory=dict)
    requests: int = 0
    tokens: int = 0
    cost: float = 0.0
    seconds: float = 0.0
    why: str = ""


@dataclass(frozen=True)
class Totals:
    """Of a run by now. run, reused: stages. tokens: written. seconds: of its stages."""

    run: int = 0
    reused: int = 0
    requests: int = 0
    tokens: int = 0
    cost: float = 0.0
    seconds: float = 0.0


class RunRecord(BaseModel, extra="ignore"):
    """The content of run.json, and where it is."""

    directory: Path = Field(exclude=True)
    schema_version: int = SCHEMA_VERSION  # the first run.json files have none
    name: str
    state: State
    pipeline: str
    profile: str | None
    seed: int
    pid: int
    process: Process | None = None  # what older versions did not write
    settings_digest: str | None = None  # of pipeline.yaml's text
    # Older versions did not write these two.
    assignments: list[str] = Field(default_factory=list)  # what `--set` set
    sweep: str | None = None  # of a run of one: the sweep's file
    started: float = Field(ge=0, lt=LAST_YEAR)
    stages: dict[str, StageRecord]  # without those of rounds that were passed over
    loops: dict[str, LoopRecord] = Field(default_factory=dict)

    @classmethod
    def begin(
        cls,
        workspace: Workspace,
        pipeline: PipelineConfig,
        names: list[str],
        sweep: str | None = None,
    ) -> RunRecord:
        """Make the run's folder and save the settings.

        Raises:
            WorkspaceError: they cannot be written; no folder is left then.
        """
        folder = workspace.runs / pipeline.name
        text = yaml.safe_dump(pipeline.resolved, sort_keys=False, allow_unicode=True)
        with disk_explained(workspace.root, "the run's record: "):
            folder.mkdir(parents=True, exist_ok=True)
            directory = _new_directory(folder)
            record = cls(
                directory=directory,
                name=f"{pipeline.name}/{directory.name}",
                state="running",
                pipeline=pipeline.source,
                profile=pipeline.profile,
                seed=pipeline.seed,
                pid=os.getpid(),
                process=Process.this(),
                settings_digest=fingerprint(text),
                assignments=[without_secrets(text) for text in pipeline.assignments],
                sweep=sweep,
                started=time.time(),
                stages={name: StageRecord() for name in names},
            )
            try:
                (directory / "logs").mkdir()
                write_durably(directory / "pipeline.yaml", text)
                record.save()
            except BaseException:
                shutil.rmtree(directory, ignore_errors=True)
                raise
        return record

    def save(self) -> None:
        """Write run.json.

        Raises:
            WorkspaceError: it cannot be written; the previous one is still there.
        """
        values = self.model_dump(mode="json")
        with disk_explained(self.directory, "the run's record: "):
            write_durably(self.directory / RECORD, json.dumps(values, indent=2) + "\n")

    @property
    def described(self) -> str:
        """`arte/20260117-093012, started 2026-01-17 09:30:12 CET, done`."""
        began = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(self.started))
        away = self.process if self.state == "running" else None
        where = f" on {away.host}" if away is not None and not away.is_here else ""
        return f"{self.name}, started {began}, {self.state}{where}"

    @property
    def is_plain_and_finished(self) -> bool:
        """Whether a pipeline's bare name may stand for it: it is done, and not one of a sweep's."""
        return self.state == "done" and self.sweep is None

    @contextmanager
    def ended(self) -> Iterator[None]:
        """Note a run that ends before or between its stages, and show others that it lives."""
        try:
            with beating(self.directory / HEARTBEAT):
                yield
        except BaseException as error:
            if self.state == "running":
                self.stopped(error)
            raise

    def stopped(self, error: BaseException, name: str | None = None) -> None:
        """Note what stopped the run, at a stage if one is named."""
        self.state = "failed" if isinstance(error, Exception) else "interrupted"
        if name is not None:
            self.stages[name].state = self.state
            self.stages[name].why = without_secrets(str(error)) or type(error).__name__
        with suppress(WorkspaceError):  # a full disk must not hide what stopped the run
            self.save()

    def used(self, name: str, artifact: Artifact, state: State, seconds: float, why: str) -> None:
        """Note the artifact of a stage of this run."""
        manifest, made = artifact.manifest, state == "done"
        self.stages[name] = StageRecord(
            state=state,
            artifact=artifact.path.name,
            rows=manifest.rows_out,
            dropped=manifest.dropped,
            requests=manifest.completions.get("made", 0) if made else 0,
            tokens=manifest.tokens_out if made else 0,
            cost=manifest.cost if made else 0.0,
            seconds=round(seconds, 3),
            why=why,
        )
        self.save()

    def ended_loop(self, ended: Ended) -> None:
        """Note after which round a `repeat` has ended, without the rounds after it."""
        self.loops[ended.block] = ended.loop
        for name in ended.passed:
            self.stages.pop(name, None)
        self.save()

    def totals(self) -> Totals:
        stages = self.stages.values()
        return Totals(
            run=sum(stage.state == "done" for stage in stages),
            reused=sum(stage.state == "reused" for stage in stages),
            requests=sum(stage.requests for stage in stages),
            tokens=sum(stage.tokens for stage in stages),
            cost=sum(stage.cost for stage in stages),
            seconds=sum(stage.seconds for stage in stages),
        )

    def place(self, stage: str) -> tuple[int, int]:
        """Which of how many stages it is, from 1: those that run, or are reused."""
        return list(self.stages).index(stage) + 1, len(self.stages)

    def settle(self) -> None:
        """Mark the run as interrupted, in memory only, if its process is gone."""
        if self.state != "running":
            return
        process = self.process or Process(pid=self.pid)
        # Until the first beat, that it has just begun.
        if process.is_alive(*(self.directory / name for name in (HEARTBEAT, RECORD))):
            return
        self.state = "interrupted"
        for stage in self.stages.values():
            stage.state = "interrupted" if stage.state == "running" else stage.state

    def log_of(self, stage: str) -> Path:
        return self.directory / "logs" / f"{stage}.log"

    @contextmanager
    def logging(self, stage: str) -> Iterator[None]:
        """Send what is logged meanwhile to the stage's own file."""
        with disk_explained(self.directory, "the stage's log: "):
            handler = log_file(self.log_of(stage))
        root = logging.getLogger()
        level = root.level
        root.addHandler(handler)
        root.setLevel(min(level, logging.INFO) if level else logging.INFO)
        logging.captureWarnings(True)
        try:
            yield
        except Exception:
            log.exception("stage '%s' failed", stage)
            raise
        finally:
            logging.captureWarnings(False)
            root.setLevel(level)
            root.removeHandler(handler)
            with suppress(OSError):  # as in `log_file`
                handler.close()


def read_run(
    workspace: Workspace, name: str | None, *, on_damaged: Callable[[str], None] = log.warning
) -> RunRecord:
    """A run by `pipeline/time`, a pipeline's newest, or with None the newest of all.

    on_damaged: is told of newer runs that are skipped because they cannot be read.

    Raises:
        WorkspaceError: there is none of that name, or none that can be read.
    """
    runs = sorted(_records(workspace.runs, on_damaged), key=_began)
    wanted = [
        path
        for path in runs
        if name in (None, path.parent.parent.name, f"{path.parent.parent.name}/{path.parent.name}")
    ]
    if not wanted:
        raise WorkspaceError(_no_run(workspace, name, runs))
    for path in reversed(wanted[1:]):
        try:
            return _read(path)
        except WorkspaceError as damaged:
            on_damaged(f"{damaged}; this is the run before it")
    return _read(wanted[0])


def _records(folder: Path, says: Callable[[str], None]) -> Iterator[Path]:
    """The run.json files. `glob` would pass over folders that may not be entered, and say nothing.

    Raises:
        OSError: the folder of all runs may not be entered.
    """
    if not folder.exists():
        return
    for pipeline in folder.iterdir():
        try:
            runs = list(pipeline.iterdir()) if pipeline.is_dir() else []
            yield from (run / RECORD for run in runs if (run / RECORD).exists())
        except OSError as error:
            says(f"{error.filename or pipeline}: {error.strerror}; its runs are passed over")


def runs_of(workspace: Workspace, pipeline: str) -> Iterator[RunRecord]:
    """A pipeline's runs that can be read, the newest first."""
    found = workspace.runs.glob(f"{escape(pipeline)}/*/{RECORD}")
    for path in sorted(found, key=_began, reverse=True):
        with suppress(WorkspaceError):
            yield _read(path)


def runs_written_since(workspace: Workspace, then: float) -> Iterator[RunRecord]:
    """The runs of all pipelines whose record was written since then; seconds since 1970."""
    for path in workspace.runs.glob(f"*/*/{RECORD}"):
        with suppress(OSError, WorkspaceError):
            if path.stat().st_mtime >= then:
                yield _read(path)


def all_runs(workspace: Workspace, on_damaged: Callable[[str], None]) -> Iterator[RunRecord]:
    """The runs of every pipeline, the newest first; `on_damaged` is told of what is skipped."""
    for path in sorted(_records(workspace.runs, on_damaged), key=_began, reverse=True):
        try:
            yield _read(path)
        except WorkspaceError as damaged:
            on_damaged(str(damaged))


def _began(path: Path) -> tuple[float, str]:
    """When a run began, as its record says: the folder's name is local time, which can go back.

    Of a damaged record the time of the file.
    """
    try:
        started = float(json.loads(path.read_text(encoding="utf-8"))["started"])
        if math.isfinite(started):
            return started, path.parent.name
    except (OSError, ValueError, RecursionError, LookupError, TypeError, OverflowError):
        pass
    try:
        return path.stat().st_mtime, path.parent.name
    except OSError:
        return 0.0, path.parent.name


def _read(path: Path) -> RunRecord:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("not a mapping")
        record = RunRecord.model_validate({**values, "directory": path.parent})
    except (OSError, ValueError, RecursionError) as error:
        why = str(error)
        if isinstance(error, ValidationError):  # its own text has a line for each key and a link
            first = error.errors()[0]
            why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise WorkspaceError(
            f"{path} is damaged ({why}); remove the folder {path.parent}, or name another run"
        ) from error
    record.settle()
    return record


def _no_run(workspace: Workspace, name: str | None, runs: list[Path]) -> str:
    """What there is instead: the runs of that pipeline, newest first, or the pipelines."""
    if not runs:
        return f"no run in {workspace.runs} yet"
    pipeline = str(name).partition("/")[0]
    times = [path.parent.name for path in runs if path.parent.parent.name == pipeline]
    if not times:
        names = {path.parent.parent.name for path in runs}
        return f"no run '{name}' in {workspace.runs}; {nearest(str(name), names)}"
    shown = ", ".join(f"{pipeline}/{time}" for time in times[: -SHOWN_RUNS - 1 : -1])
    more = f" and {len(times) - SHOWN_RUNS} older ones" if len(times) > SHOWN_RUNS else ""
    return f"no run '{name}' in {workspace.runs}; there are {shown}{more}"


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
