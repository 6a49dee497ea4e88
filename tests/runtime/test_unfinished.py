"""What stopped stages left behind is deleted where a user asks for it, and under no run's hands."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from llm_distill.runtime.artifact import Workspace

DAY = 86_400


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "workspace")
    made.prepare()
    return made


def leave(workspace: Workspace, address: str, days: float) -> Path:
    """The folder of a training that was stopped that long ago."""
    folder = workspace.work_dir(address)
    weights = folder / "checkpoints" / "checkpoint-2" / "weights"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(bytes(1_500_000))
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (time.time() - days * DAY,) * 2)
    return folder


def prune(cli: Any, workspace: Workspace, *options: object) -> Any:
    return cli("cache", "prune", *options, "--workspace", workspace.root)


def test_what_is_old_enough_is_deleted(workspace: Workspace, cli: Any) -> None:
    old, new = leave(workspace, "student-0a", 40), leave(workspace, "student-0b", 2)
    counted = prune(cli, workspace, "--older-than", 30)
    assert counted.code == 0
    assert "what 1 stopped stage left, 1.5 MB, would be deleted; add --yes" in counted.out
    assert old.exists()
    assert prune(cli, workspace, "--older-than", 30, "--yes").code == 0
    assert (old.exists(), new.exists()) == (False, True)
    assert "2 stopped stages" not in prune(cli, workspace, "--older-than", 1, "--yes").out
    assert not new.exists()


def test_a_file_that_has_just_been_written_keeps_the_rest(workspace: Workspace, cli: Any) -> None:
    folder = leave(workspace, "student-0a", 40)
    weights = folder / "checkpoints" / "checkpoint-2" / "weights"
    os.utime(weights)
    prune(cli, workspace, "--older-than", 30, "--yes")
    assert weights.exists()


def test_what_a_run_is_working_on_is_left_alone(workspace: Workspace, cli: Any) -> None:
    folder = leave(workspace, "student-0a", 40)
    with workspace.lock("student-0a", pytest.fail):
        assert "stopped stage" not in prune(cli, workspace, "--older-than", 30, "--yes").out
        assert folder.exists()
    prune(cli, workspace, "--older-than", 30, "--yes")
    assert not folder.exists()


def test_a_models_completions_are_chosen_without_it(workspace: Workspace, cli: Any) -> None:
    folder = leave(workspace, "student-0a", 40)
    prune(cli, workspace, "--model", "student", "--older-than", 30, "--yes")
    assert folder.exists()
