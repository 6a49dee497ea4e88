"""A shortened ARTE from the command line: every stage runs, and a rerun reuses all of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SHORT = [
    "--set", "stages.drafts.n=1",
    "--set", "stages.tailored_drafts.n=1",
    "--set", "stages.preference_items.n=6",
    "--set", "stages.takers.shots=[0, 1, 2]",
    "--set", "stages.tailored_data.n=12",
    "--set", "stages.aligned_teacher.num_train_epochs=1",
    "--set", "stages.tailored_student.num_train_epochs=1",
    "--set", "stages.exam.shots=[0]",
]  # fmt: skip


@pytest.mark.slow
def test_arte_runs_end_to_end_and_then_reuses_everything(tmp_path: Path) -> None:
    """In a folder outside the clone, as after `pip install`."""
    command = [sys.executable, "-m", "llm_distill", "run", "pipelines/arte.yaml", *SHORT]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "exam: accuracy" in first.stdout
    assert "tailored_student − student" in first.stdout
    runs = sorted((tmp_path / "data" / "runs" / "arte").iterdir())
    record = json.loads((runs[0] / "run.json").read_text())
    assert {stage["state"] for stage in record["stages"].values()} == {"done"}
    artifacts = tmp_path / "data" / "artifacts"
    (pairs,) = artifacts.glob("preferences-*/manifest.json")
    # As planted: the student learns from the formula and the steps, never from empty words.
    strategies = json.loads(pairs.read_text())["metrics"]
    assert strategies["pairs"]["rationale"] > 5
    assert set(strategies["chosen_strategies"]) <= {"recall", "procedure"}
    (teacher,) = artifacts.glob("aligned_teacher-*")
    assert (teacher / "adapter_model.safetensors").is_file()
    assert not list(teacher.glob("*.bin")) + list(teacher.glob("*.pt"))
    (exam,) = artifacts.glob("exam-*/manifest.json")
    assert json.loads(exam.read_text())["metrics"]["contamination"]["rows"] == {"tailored_data": 0}
    assert (runs[0] / "report.html").is_file()
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert again.returncode == 0
    assert "▶" not in again.stdout
