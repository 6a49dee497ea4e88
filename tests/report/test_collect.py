"""What is left of a run is collected, even if parts are damaged or missing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_distill.manifest import MANIFEST
from llm_distill.runtime.record import StageRecord

MakeRun = Callable[..., Any]


def test_a_stage_is_read_from_its_manifest(make_run: MakeRun) -> None:
    made = make_run()
    made.stage("a", "load_dataset", [{"id": "1", "question": "?"}])
    made.stage("b", "toy_map", [{"id": "1"}], ("a",), {"n": 2}, seconds=8.5, tokens_out=3, cost=0.2)
    made.record.stages["b"].state = "reused"
    made.record.stages["b"].seconds = 0.001
    a, b = made.view.stages
    assert (a.kind, a.inputs, a.columns) == ("load_dataset", (), {"id", "question"})
    assert (b.kind, b.inputs) == ("toy_map", ("a",))
    assert (b.seconds, b.tokens, b.cost) == (8.5, 3, 0.2)  # what it took when it was made


def test_a_stage_that_has_not_run_is_read_from_the_settings(make_run: MakeRun) -> None:
    settings = "stages: {a: {stage: toy_map, rows: b, also: [c, b]}, d: {stage: gone, rows: b}}"
    made = make_run(settings)
    made.record.stages = {"a": StageRecord(), "d": StageRecord()}
    a, d = made.view.stages
    assert (a.kind, a.inputs, a.state) == ("toy_map", ("b", "c"), "waiting")
    assert (d.kind, d.inputs) == ("gone", ())


def _edit(path: Path) -> None:
    manifest = json.loads((path / MANIFEST).read_text())
    (path / MANIFEST).write_text(json.dumps({**manifest, "rows_out": 9}))


def _cut(path: Path) -> None:
    arrow = next(path.glob("*.arrow"))
    arrow.write_bytes(arrow.read_bytes()[:-8])


def _remove(path: Path) -> None:
    path.rename(path.with_name(".gone"))


@pytest.mark.parametrize(
    ("damage", "problem"), [(_edit, "edited"), (_cut, "bytes, not"), (_remove, "removed")]
)
def test_a_damaged_artifact_is_reported(
    make_run: MakeRun, damage: Callable[[Path], None], problem: str
) -> None:
    made = make_run("stages: {a: {stage: toy_rows}}")
    damage(made.stage("a", "toy_rows", [{"id": "1"}]))
    (a,) = made.view.stages
    assert problem in a.problem
    assert (a.directory, a.kind, a.record.rows) == (None, "toy_rows", 1)


@pytest.mark.parametrize("text", [None, "{", "[]", "stages: 3", "stages: {a: 3}"])
def test_settings_that_cannot_be_read_hide_nothing_else(
    make_run: MakeRun, text: str | None
) -> None:
    made = make_run()
    made.stage("a", "toy_rows", [{"id": "1"}])
    settings = made.record.directory / "pipeline.yaml"
    settings.unlink() if text is None else settings.write_text(text)
    assert [stage.kind for stage in made.view.stages] == ["toy_rows"]


def test_a_run_whose_process_is_gone_was_interrupted(make_run: MakeRun) -> None:
    made = make_run()
    done = subprocess.Popen(["true"])
    done.wait()
    made.record.pid, made.record.state = done.pid, "running"
    made.record.stages = {"a": StageRecord(state="running"), "b": StageRecord()}
    made.record.settle()
    assert made.record.state == "interrupted"
    assert [stage.state for stage in made.record.stages.values()] == ["interrupted", "waiting"]
