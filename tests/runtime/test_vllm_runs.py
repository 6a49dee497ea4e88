"""Whole runs of the command line with vLLM: stopped with Ctrl-C, killed, and carried to their end.

Run with `make test-vllm`. An engine takes long to start, so one story is told: a run is
interrupted, the next is killed, the third ends; and each test looks at one part of it.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.record import RunRecord, read_run
from tests.engines.vllm.shared import NEEDS_VLLM, ROOT, SECONDS_TO_START, SMOLLM2, need_smollm2

pytestmark = NEEDS_VLLM

N_ROWS = 24
FILE = f"""\
name: taught
seed: 5
models:
  teacher:
    model_name_or_path: {SMOLLM2.path}
    dtype: float32
    engine:
      kind: vllm
      max_model_len: 512
      max_num_seqs: 4
      kv_cache_memory_bytes: {2**28}
      enforce_eager: true
stages:
  questions: {{stage: load_dataset, path: questions.jsonl}}
  answers:
    stage: generate
    rows: questions
    model: teacher
    template: question.jinja
    sampling: {{temperature: 1.0, max_tokens: 32}}
  kinds:
    stage: generate
    rows: questions
    model: teacher
    template: kind.jinja
    sampling: {{temperature: 1.0, max_tokens: 8}}
    structured_output: {{choice: [food, money, neither]}}
"""
LINES = (
    "taught from",
    "done: ",
    "its stages: ",
    "  start a process",
    "  load teacher: ",
    "▶ ",
    "✓ ",
    "• ",
    "  generate (teacher): ",
    "report: ",
    "in all: ",
)
"""How each line of a run that goes well begins."""
SECONDS_TO_STOP = 25  # a worker that heeds no signal is killed after 30


@dataclass
class Clone:
    """A folder in which a user works."""

    folder: Path

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.folder / "workspace")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`llm-distill run` with a process group of its own, as from a shell."""
        command = [sys.executable, "-m", "llm_distill", "run", "taught.yaml"]
        return subprocess.Popen(
            [*command, "--workspace", "workspace", *arguments],
            cwd=self.folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *arguments: str) -> tuple[str, RunRecord]:
        """A run to its end: what it wrote to the terminal, and its record."""
        process = self.start(*arguments)
        written, _ = process.communicate(timeout=SECONDS_TO_START)
        assert process.returncode == 0, written
        wait_for_the_end_of(process)
        return written, read_run(self.workspace, None)

    def n_stored(self) -> int:
        """Completions that are kept."""
        path = self.workspace.completions
        with (
            suppress(sqlite3.Error),
            closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db,
        ):
            return int(db.execute("SELECT count(*) FROM completions").fetchone()[0])
        return 0

    def wait_until_stored(self, n: int, process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + SECONDS_TO_START
        while self.n_stored() < n:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def completions(self, record: RunRecord, stage: str) -> dict[str, int]:
        """How many of a stage's completions were made and reused."""
        artifact = self.workspace.find(str(record.stages[stage].artifact))
        assert artifact is not None
        counts: dict[str, int] = artifact.manifest.completions
        return counts

    def rows(self, record: RunRecord, stage: str) -> list[dict[str, Any]]:
        from datasets import load_from_disk

        path = self.workspace.path(str(record.stages[stage].artifact))
        return list(load_from_disk(str(path)))


def wait_for_the_end_of(process: subprocess.Popen[str]) -> None:
    """Until no process of its group is left, or fail."""
    deadline = time.monotonic() + 60
    with suppress(ProcessLookupError):
        while True:
            os.killpg(process.pid, 0)
            assert time.monotonic() < deadline, "a worker was left behind"
            time.sleep(0.05)


@dataclass
class Stopped:
    """A run that did not end: its exit code, its words, and what was kept then."""

    code: int
    written: str
    n_stored: int


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    need_smollm2()
    folder = tmp_path_factory.mktemp("clone")
    (folder / "taught.yaml").write_text(FILE)
    (folder / "question.jinja").write_text("{{ question }}")
    (folder / "kind.jinja").write_text("Is it about food or about money? {{ question }}")
    lines = (ROOT / "data/word_problems/test.jsonl").read_text().splitlines(keepends=True)
    (folder / "questions.jsonl").write_text("".join(lines[:N_ROWS]))
    return Clone(folder)


@pytest.fixture(scope="module")
def interrupted(clone: Clone) -> Iterator[Stopped]:
    """With Ctrl-C in a terminal, which sends SIGINT to every process."""
    process = clone.start()
    try:
        clone.wait_until_stored(1, process)
        os.killpg(process.pid, signal.SIGINT)
        written, _ = process.communicate(timeout=SECONDS_TO_STOP)
        wait_for_the_end_of(process)
        yield Stopped(process.returncode, written, clone.n_stored())
    finally:
        process.kill()


@pytest.fixture(scope="module")
def killed(clone: Clone, interrupted: Stopped) -> Iterator[Stopped]:
    """SIGKILL to the process that was started, and to no other."""
    process = clone.start()
    try:
        clone.wait_until_stored(interrupted.n_stored + 1, process)
        process.kill()
        written, _ = process.communicate(timeout=SECONDS_TO_STOP)
        wait_for_the_end_of(process)
        yield Stopped(process.returncode, written, clone.n_stored())
    finally:
        process.kill()


@pytest.fixture(scope="module")
def finished(clone: Clone, killed: Stopped) -> tuple[str, RunRecord]:
    return clone.run()


def test_ctrl_c_ends_a_run_and_its_worker(interrupted: Stopped) -> None:
    assert interrupted.code == 130
    assert "stopped: finished stages are kept" in interrupted.written
    assert "Traceback" not in interrupted.written
    assert 0 < interrupted.n_stored < N_ROWS


def test_a_killed_run_goes_on_and_asks_only_what_is_missing(
    clone: Clone, interrupted: Stopped, killed: Stopped, finished: tuple[str, RunRecord]
) -> None:
    assert killed.code == -signal.SIGKILL
    assert interrupted.n_stored < killed.n_stored < N_ROWS
    _, record = finished
    made, reused = N_ROWS - killed.n_stored, killed.n_stored
    assert clone.completions(record, "answers") == {"made": made, "reused": reused}
    assert clone.completions(record, "kinds") == {"made": N_ROWS}
    assert clone.n_stored() == 2 * N_ROWS


def test_two_stages_after_one_another_give_what_was_asked_for(
    clone: Clone, finished: tuple[str, RunRecord]
) -> None:
    _, record = finished
    answers, kinds = clone.rows(record, "answers"), clone.rows(record, "kinds")
    questions = [row["id"] for row in clone.rows(record, "questions")]
    assert [row["parent_id"] for row in answers] == questions
    assert [row["parent_id"] for row in kinds] == questions
    assert all(row["error"] is None and row["completion"] for row in answers)
    assert {row["completion"] for row in kinds} <= {"food", "money", "neither"}


def test_vllm_speaks_in_the_log_and_not_on_the_terminal(finished: tuple[str, RunRecord]) -> None:
    written, record = finished
    assert [line for line in written.splitlines() if not line.startswith(LINES)] == []
    for stage in ("answers", "kinds"):
        assert " INFO vllm." in (record.directory / "logs" / f"{stage}.log").read_text()


def test_a_run_again_reuses_all_and_starts_no_engine(
    clone: Clone, finished: tuple[str, RunRecord]
) -> None:
    _, before = finished
    _, again = clone.run()
    assert {stage.state for stage in again.stages.values()} == {"reused"}
    _, forced = clone.run("--force", "answers", "--force", "kinds")
    for stage in ("answers", "kinds"):
        assert forced.stages[stage].state == "done"
        assert clone.completions(forced, stage) == {"reused": N_ROWS}
        assert clone.rows(forced, stage) == clone.rows(before, stage)
        assert "vllm" not in (forced.directory / "logs" / f"{stage}.log").read_text()
