"""Run a pipeline file in this process, or in another one, over one workspace."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from llm_distill.pipeline.load import load_pipeline
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.plan import Selection, plan
from llm_distill.runtime.record import RunRecord
from llm_distill.runtime.runner import run_pipeline

CLI = [sys.executable, str(Path(__file__).parents[1] / "cli_with_toys.py")]


class _NoBar:
    def advance(self, *counted: float | None, **named: float | None) -> None: ...


@dataclass
class Recorder:
    """A display that remembers what ran and what was said."""

    ran: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def starts(self, record: RunRecord) -> None: ...

    def begins(self, decision: Any) -> None:
        self.ran.append(decision.name)

    def ends(self, name: str, artifact: Any, state: str, seconds: float) -> None: ...

    def says(self, message: str) -> None:
        self.said.append(message)

    def progress(self, description: str, total: int | None, unit: str, done: int) -> Any:
        return nullcontext(_NoBar())


@dataclass
class Bench:
    """One pipeline file and one workspace."""

    file: Path
    workspace: Workspace
    display: Recorder = field(default_factory=Recorder)

    def write(self, text: str) -> None:
        self.file.write_text(text)

    def run(self, *assignments: str, **selection: Any) -> RunRecord:
        self.display.ran.clear()
        self.display.said.clear()
        pipeline = load_pipeline(str(self.file), assignments=assignments)
        return run_pipeline(pipeline, self.workspace, Selection(**selection), self.display)

    def plan(self, *assignments: str, **selection: Any) -> dict[str, tuple[str, str]]:
        pipeline = load_pipeline(str(self.file), assignments=assignments)
        decisions = plan(pipeline, self.workspace, Selection(**selection))
        return {d.name: (d.action, d.why) for d in decisions}

    def artifact(self, stage: str) -> Path:
        (path,) = self.workspace.artifacts.glob(f"{stage}-*")
        return path

    def rows(self, record: RunRecord, stage: str) -> list[dict[str, Any]]:
        from datasets import load_from_disk

        address = record.stages[stage].artifact
        assert address is not None
        return list(load_from_disk(str(self.workspace.path(address))))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`llm-distill run` in another process.

        Signals reach it even where the tests run in the background of a shell or under nohup,
        which make all that they start ignore them.
        """
        command = [*CLI, "run", str(self.file), "--workspace", str(self.workspace.root)]
        return subprocess.Popen(
            [*command, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=_heed_signals,
        )


def _heed_signals() -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def bench(tmp_path: Path) -> Callable[[str], Bench]:
    def make(text: str) -> Bench:
        made = Bench(tmp_path / "toy.yaml", Workspace(tmp_path / "workspace"))
        made.write(text)
        return made

    return make
