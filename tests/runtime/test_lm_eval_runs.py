"""lm-eval in a run: in a worker, under a fingerprint, and its rows as those of an evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_distill.errors import ConfigError
from llm_distill.pipeline.load import load_pipeline

PIPELINE = """\
name: harness
models:
  teacher: {model_name_or_path: data/models/tiny-teacher, prompt_format: text}
  student: {model_name_or_path: data/models/tiny-student, prompt_format: text}
  server:
    model_name_or_path: served
    engine: {kind: openai, base_url: "http://localhost:1/v1"}
stages:
  exam: {stage: evaluate_lm_eval, models: [teacher, student], tasks: [sky], include_path: FOLDER}
  loyalty:
    {stage: agreement, rows: exam, annotators: [teacher, student], label: answer,
     probabilities: [probabilities], minimum: {probability_loyalty: 0.0}}
"""
TASK = """
task: sky
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/items.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: question
doc_to_choice: ["blue", "green"]
doc_to_target: 0
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("tasks", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    tasks = tmp_path / "tasks"
    (tasks / "sky.yaml").write_text(TASK.replace("FOLDER", str(tasks)))
    items = [{"question": f"Is the {thing} blue or green?"} for thing in ("sky", "sea", "wood")]
    (tasks / "items.jsonl").write_text("\n".join(map(json.dumps, items)))
    return tasks


@pytest.mark.slow
def test_a_run_is_reused_until_a_task_changes_and_writes_nothing_here(
    bench: Callable[[str], Any], folder: Path
) -> None:
    toy = bench(PIPELINE.replace("FOLDER", str(folder)))
    record = toy.run()
    rows = toy.rows(record, "exam")
    assert [row["parent_id"] for row in rows] == ["sky-0", "sky-1", "sky-2"] * 2
    assert sum(rows[0]["probabilities"]) == pytest.approx(1)
    manifest = json.loads((toy.artifact("exam") / "manifest.json").read_text())
    assert [result["n"] for result in manifest["metrics"]["results"]] == [3] * 4  # acc, acc_norm
    assert manifest["packages"]["lm-eval"] == manifest["identity"]["sources"]["lm-eval"]
    assert {row["id"] for row in toy.rows(record, "loyalty")} == {"sky-0", "sky-1", "sky-2"}
    loyalty = json.loads((toy.artifact("loyalty") / "manifest.json").read_text())["metrics"]
    assert loyalty["agreement"][-1]["figure"] == "probability_loyalty"
    assert not list(Path.cwd().iterdir())
    assert {decision[0] for decision in toy.plan().values()} == {"reuse"}
    otherwise = toy.plan("stages.exam.batch_size=2", "models.student.engine={kind: vllm}")
    assert otherwise["exam"][0] == "reuse"  # its own batches, and no engine
    (folder / "items.jsonl").write_text('{"question": "Is grass blue or green?"}')
    assert toy.plan()["exam"] == ("run", "source items.jsonl changed")


def test_a_model_behind_a_server_has_no_weights(bench: Callable[[str], Any], folder: Path) -> None:
    served = PIPELINE.replace("[teacher, student], tasks", "[server], tasks")
    toy = bench(served.replace("FOLDER", str(folder)))
    with pytest.raises(ConfigError, match=r"exam.models\[0\]: 'server' is on a server .*load"):
        load_pipeline(str(toy.file))
