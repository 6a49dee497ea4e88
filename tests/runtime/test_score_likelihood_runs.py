"""score_likelihood in a run: the bundled teacher scores the answers of word problems."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from llm_distill.errors import ConfigError
from llm_distill.pipeline.load import load_pipeline
from tests.golden.fingerprints import identities

PIPELINE = """\
name: scores
models:
  teacher: {model_name_or_path: data/models/tiny-teacher, engine: {kind: transformers}}
  server: {model_name_or_path: served, engine: {kind: openai, base_url: "http://localhost:1/v1"}}
stages:
  problems: {stage: load_dataset, path: data/word_problems, split: train, limit: 24}
  scores:
    stage: score_likelihood
    rows: problems
    model: teacher
    prompt_template: arte/exam.jinja
    variables: {task_description: Solve the word problem.}
    completion_column: reference_answer
"""


@pytest.mark.slow
def test_the_bundled_teacher_scores(bench: Callable[[str], Any]) -> None:
    toy = bench(PIPELINE)
    record = toy.run()
    manifest = json.loads((toy.artifact("scores") / "manifest.json").read_text())
    rows = toy.rows(record, "scores")
    assert len(rows) == 24
    assert {row["scored_by"] for row in rows} == {manifest["metrics"]["scored_by"]}
    assert sum(len(row["teacher_logps"]) for row in rows) == manifest["metrics"]["n_tokens"]
    for row in rows:
        assert len(row["teacher_log_pbs"]) == len(row["teacher_logps"]) > 1
        assert max(row["teacher_logps"]) <= 0
    assert not list(toy.workspace.root.glob("**/checkpoints"))
    same = toy.plan("stages.scores.batch_tokens=64", "models.teacher.engine.batch_size=2")
    assert {action for action, _ in same.values()} == {"reuse"}
    assert toy.plan("stages.scores.top_k=4")["scores"][0] == "run"


@pytest.mark.parametrize(("scorer", "n_fingerprints"), [("engine", 2), ("forward_pass", 1)])
def test_only_scores_of_an_engine_depend_on_its_settings(
    scorer: str, n_fingerprints: int, bench: Callable[[str], Any]
) -> None:
    """Quantization in vLLM changes them; a forward pass of transformers never sees it."""
    found = set()
    for quantization in ("null", "fp8"):
        engine = f"{{kind: vllm, quantization: {quantization}}}"
        text = PIPELINE.replace("{kind: transformers}", engine)
        toy = bench(text.replace("model: teacher\n", f"model: teacher\n    scorer: {scorer}\n"))
        found.add(identities(str(toy.file))[""]["scores"])
    assert len(found) == n_fingerprints


def test_mistakes_are_found_before_anything_runs(bench: Callable[[str], Any]) -> None:
    for old, new, message in (
        ("model: teacher", "model: server", r"scores\.model: 'server' is on a server"),
        (
            "teacher, engine: {kind: transformers}}",
            "teacher, engine: {kind: scripted, function: os.path:join}}",
            "'teacher' has the engine kind scripted, which has no likelihoods of given texts; set "
            "models.teacher.engine.kind to transformers or vllm or vllm_server or openai",
        ),
        ("completion_column: reference_answer", "completion_column: answr", "answr"),
        ("completion_column: ref", "text_column: question\n    completion_column: ref", "exclude"),
        ("task_description: Solve", "description: Solve", "task_description"),
    ):
        text = PIPELINE.replace(old, new)
        if "scripted" in new:
            text += "    scorer: engine\n"
        toy = bench(text)
        with pytest.raises(ConfigError, match=message):
            load_pipeline(str(toy.file))
