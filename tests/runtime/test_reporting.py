"""A run's own figures in a tracker, and the curves of its trainings beside them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_distill.errors import ConfigError
from llm_distill.runtime.record import read_run

MakeBench = Callable[[str], Any]

TOY = """\
name: toy
report_to: tensorboard
stages:
  numbers: {stage: toy_rows, n: 4}
  answers: {stage: toy_map, rows: numbers, drop_odd: true}
"""
TRAINING = """\
name: toy
models:
  student: {model_name_or_path: data/models/tiny-student, prompt_format: text}
stages:
  rows: {stage: load_dataset, path: rows.jsonl}
  trained: {stage: train_sft, model: student, rows: rows, max_steps: 3, logging_steps: 1}
"""


@pytest.fixture(autouse=True)
def trackers_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from accelerate import PartialState

    for name in ("TENSORBOARD_LOGGING_DIR", "TRACKIO_DIR"):
        monkeypatch.delenv(name, raising=False)
    had = dict(PartialState._shared_state)
    yield
    PartialState._shared_state.clear()
    PartialState._shared_state.update(had)


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every scalar of one run in TensorBoard, as (step, value)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (file,) = folder.glob("events.*")
    read = EventAccumulator(str(file))
    read.Reload()
    return {
        tag: [(point.step, point.value) for point in read.Scalars(tag)]
        for tag in read.Tags()["scalars"]
    }


def test_figures_of_every_stage_are_sent(bench: MakeBench) -> None:
    toy = bench(TOY)
    record = toy.run()
    root = toy.workspace.root / "tracking" / "tensorboard"
    found = curves(root / record.name)
    assert found["numbers/rows"] == [(1, 4.0)]
    assert found["answers/rows"] == [(2, 2.0)]
    assert found["answers/dropped"] == [(2, 2.0)]
    assert found["numbers/seconds"][0][1] > 0
    assert toy.display.said == [f"figures and curves: tensorboard --logdir '{root}'"]
    again = toy.run()
    assert toy.display.ran == []
    found = curves(root / again.name)
    assert found["answers/rows"] == [(2, 2.0)]
    assert "answers/seconds" not in found  # nothing was done in this run


def test_a_round_has_a_name_that_every_tracker_takes(bench: MakeBench) -> None:
    repeated = "  rounds: {repeat: {times: 2, stages: {drawn: {stage: toy_rows, n: 3}}}}\n"
    toy = bench(TOY + repeated)
    record = toy.run()
    found = curves(toy.workspace.root / "tracking" / "tensorboard" / record.name)
    assert found["drawn-2/rows"] == [(4, 3.0)]


def test_where_figures_go_does_not_change_what_is_reused(bench: MakeBench) -> None:
    toy = bench(TOY)
    toy.run("report_to=none")
    assert not (toy.workspace.root / "tracking").exists()
    toy.run()
    assert toy.display.ran == []


def test_a_trainings_tracker_is_no_part_of_its_fingerprint() -> None:
    from llm_distill.runtime.fingerprint import result_settings
    from llm_distill.stages.train_sft import TrainSft

    for tracker in ("none", "wandb"):
        stage = TrainSft(stage="train_sft", model="m", rows="r", report_to=tracker)
        assert "report_to" not in result_settings(stage)


def test_a_tracker_that_does_not_start_is_said_before_any_stage(
    bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: Any) -> None:
        raise OSError("nobody is logged in")

    monkeypatch.setattr("accelerate.tracking.TensorBoardTracker.start", start)
    toy = bench(TOY)
    with pytest.raises(ConfigError, match=r"report_to: tensorboard does not start \(nobody is log"):
        toy.run()
    assert toy.display.ran == []
    assert read_run(toy.workspace, None).state == "failed"


def test_figures_that_cannot_be_sent_do_not_end_a_run(
    bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def log(self: Any, values: Any, **_: Any) -> None:
        raise OSError("out of reach")

    monkeypatch.setattr("accelerate.tracking.TensorBoardTracker.log", log)
    toy = bench(TOY)
    assert toy.run().state == "done"
    said = "report_to: tensorboard: figures were not sent (out of reach)"
    assert toy.display.said.count(said) == 2


def _run(folder: Path, tracker: str) -> Path:
    """A training run by the command line; returns the folder of the trackers."""
    rows = [{"id": str(i), "prompt": f"{i}?", "completion": f"{i}."} for i in range(8)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "toy.yaml").write_text(TRAINING)
    command = [sys.executable, "-m", "llm_distill", "run", "toy.yaml", "--workspace", "w"]
    done = subprocess.run(
        [*command, "--set", f"report_to={tracker}"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["rows.jsonl", "toy.yaml", "w"]
    return folder / "w" / "tracking"


@pytest.mark.exhaustive
@pytest.mark.slow
def test_tensorboard_has_the_figures_and_the_curves(tmp_path: Path) -> None:
    folder = _run(tmp_path, "tensorboard") / "tensorboard" / "toy"
    (run,) = folder.iterdir()
    assert curves(run)["rows/rows"] == [(1, 8.0)]
    losses = curves(run / "trained")["train/loss"]
    assert [step for step, _ in losses] == [1, 2, 3]
    ((_, mean),) = curves(run)["trained/train_loss"]
    assert mean == pytest.approx(sum(loss for _, loss in losses) / 3)


@pytest.mark.slow
def test_trackio_has_the_figures_and_the_curves(tmp_path: Path) -> None:
    environment = {**os.environ, "TRACKIO_DIR": str(_run(tmp_path, "trackio") / "trackio")}

    def trackio(*arguments: str) -> Any:
        command = [sys.executable, "-m", "trackio.cli", *arguments, "--project", "toy", "--json"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def values(run: str, metric: str) -> list[float]:
        found = trackio("get", "metric", "--run", run, "--metric", metric)
        return [point["value"] for point in found["values"]]

    run, trained = sorted(trackio("list", "runs")["runs"])
    assert trained == f"{run}/trained"
    assert values(run, "rows/rows") == [8]
    (mean,) = values(run, "trained/train_loss")
    assert mean == pytest.approx(sum(values(trained, "train/loss")) / 3)
