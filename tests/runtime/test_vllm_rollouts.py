"""A student in training that writes on a real `vllm serve`, with the adapter of each step.

Run with `make test-vllm`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_distill.manifest import read_manifest
from tests.engines.vllm.shared import NEEDS_VLLM, SMOLLM2, need_smollm2, serving_adapters

pytestmark = NEEDS_VLLM

TAUGHT = """\
name: served
variables: {examples: [], task_description: Solve the problem.}
models:
  student:
    model_name_or_path: "MODEL"
    prompt_format: chat
    engine:
      kind: openai
      base_url: "URL"
      model: smollm2
      adapters: hot_load
      adapters_folder: "FOLDER"
  teacher: {model_name_or_path: "MODEL", prompt_format: chat}
stages:
  problems: {stage: load_dataset, path: data/word_problems, split: train, limit: 6}
  taught:
    stage: train_distill
    model: student
    teacher: teacher
    rows: problems
    prompt_template: small/exam.jinja
    teacher_prompt_template: arte/exam.jinja
    online: true
    losses: {opd: 1.0}
    rollouts: {writer: engine, max_tokens: 24, max_truncated: 1}
    peft: {r: 4}
    max_steps: 3
    learning_rate: 1.0e-3
    per_device_train_batch_size: 2
    max_length: 400
    logging_steps: 1
    on_collapse: ignore
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving_adapters(tmp_path_factory.mktemp("serve") / "log") as address:
        yield address


def test_a_student_writes_there_with_the_adapter_of_each_step(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bench: Callable[[str], Any]
) -> None:
    """Its teacher is what it was before the training, under another prompt."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    text = TAUGHT.replace("URL", url).replace("MODEL", SMOLLM2.path)
    toy = bench(text.replace("FOLDER", str(tmp_path / "adapters")))
    fresh = history(toy)
    old = history(toy, "stages.taught.rollouts.reload_every=100")
    assert all(point["opd_apart"] < 0.01 for point in fresh)
    assert all(point["rollouts/left_out"] == 0 for point in fresh)
    assert old[0]["opd_apart"] < 0.01
    assert old[2]["opd_apart"] > 3 * fresh[2]["opd_apart"]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_server_that_the_training_starts_for_itself(
    processes: int, bench: Callable[[str], Any]
) -> None:
    need_smollm2()
    arguments = {"enforce_eager": True, "max_num_seqs": 8}
    engine = {"kind": "vllm_server", "adapters": "hot_load", "max_model_len": 512}
    toy = bench(TAUGHT.replace("MODEL", SMOLLM2.path))
    points = history(
        toy,
        f"models.student.engine={engine | {'arguments': arguments}}",
        "models.student.dtype=float32",
        f"stages.taught.launch={{processes: {processes}, strategy: ddp}}",
    )
    assert len(points) == 3
    assert all(point["opd_apart"] < 0.01 for point in points)
    assert all(point["rollouts/left_out"] == 0 for point in points)


def history(toy: Any, *changes: str) -> list[dict[str, float]]:
    record = toy.run(*changes)
    found = read_manifest(toy.workspace.path(record.stages["taught"].artifact))
    assert found is not None
    points: list[dict[str, float]] = found.metrics["history"]
    return points
