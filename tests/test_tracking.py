"""Where trackers write and under which names, and that the environment is restored."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from llm_distill.tracking import (
    TrackedRun,
    end_open_run,
    environment,
    how_to_look,
    not_installed,
    sent,
    variables,
)

RUN = TrackedRun("toy", "toy/now", Path("/w/tracking"))
NAMES = {
    "trackio": "TRACKIO_DIR",
    "wandb": "WANDB_DIR",
    "tensorboard": "TENSORBOARD_LOGGING_DIR",
    "mlflow": "MLFLOW_TRACKING_URI",
}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES.values(), "WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("tracker", "name"), NAMES.items())
def test_files_are_in_the_workspace_unless_the_user_sets_another_place(
    tracker: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "/w/tracking" in variables(tracker, RUN)[name]
    monkeypatch.setenv(name, "/mine")
    assert variables(tracker, RUN)[name].startswith("/mine")


def test_each_run_has_its_own_folder_in_tensorboard() -> None:
    (folder,) = variables("tensorboard", RUN.of("trained")).values()
    assert folder == "/w/tracking/tensorboard/toy/now/trained"
    assert how_to_look("tensorboard", RUN) == "tensorboard --logdir '/w/tracking/tensorboard'"


def test_projects_are_named_after_the_pipeline_and_telemetry_is_off() -> None:
    wandb, mlflow = variables("wandb", RUN), variables("mlflow", RUN)
    assert (wandb["WANDB_PROJECT"], mlflow["MLFLOW_EXPERIMENT_NAME"]) == ("toy", "toy")
    assert wandb["WANDB_ERROR_REPORTING"] == "false"
    assert mlflow["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_the_environment_is_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    run = TrackedRun("toy", "toy/now", tmp_path / "tracking")
    before = dict(os.environ)
    with environment("wandb", run):
        assert os.environ["WANDB_DIR"] == str(tmp_path / "tracking")
        assert os.environ["WANDB_PROJECT"] == "mine"
        assert run.folder.is_dir()
    assert dict(os.environ) == before


def test_without_a_tracker_nothing_is_made(tmp_path: Path) -> None:
    with sent("none", TrackedRun("toy", "toy/now", tmp_path / "tracking")):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tracker", NAMES)
def test_a_missing_package_is_named_with_what_installs_it(
    tracker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = not_installed(tracker)
    assert message is not None
    assert f"pip install 'llm-distill[{tracker}]'" in message
    assert not_installed("none") is None


class Wandb(SimpleNamespace):
    """The part of wandb that is used, with an open run."""

    def finish(self, exit_code: int) -> None:
        self.ended, self.run = exit_code, None


@pytest.mark.parametrize("failed", [False, True])
def test_an_open_run_is_ended_with_its_outcome(
    failed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = Wandb(run="open")
    monkeypatch.setitem(sys.modules, "wandb", wandb)

    def train() -> None:
        with sent("wandb", TrackedRun("toy", "toy/now", tmp_path)):
            if failed:
                raise KeyError("no memory")

    if failed:
        with pytest.raises(KeyError, match="no memory"):
            train()
    else:
        train()
    assert (wandb.ended, wandb.run) == (int(failed), None)
    end_open_run("wandb", failed=False)  # there is none anymore
    assert wandb.ended == int(failed)


def test_a_run_that_cannot_be_ended_does_not_lose_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(run="open"))  # has no finish
    with sent("wandb", TrackedRun("toy", "toy/now", tmp_path)):
        pass
    assert "its run could not be ended" in caplog.text
