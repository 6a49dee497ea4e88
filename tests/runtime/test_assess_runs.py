"""assess in a run: the bundled student, and a reward model that a server cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from llm_distill.errors import ConfigError
from llm_distill.pipeline.load import load_pipeline

PIPELINE = """\
name: assessment
models:
  student:
    model_name_or_path: data/models/tiny-student
    prompt_format: text
    engine: {kind: transformers}
  server: {model_name_or_path: served, engine: {kind: openai, base_url: "http://localhost:1/v1"}}
stages:
  validation: {stage: load_dataset, path: data/word_problems, split: validation, limit: 12}
  gold: &assess
    stage: assess
    rows: validation
    model: student
    difficulty: {by: gold}
    template: arte/exam.jinja
    variables: {task_description: Solve the word problem.}
    sampling: {temperature: 0.1, max_tokens: 72, stop: ["\\nQuestion:", "Question:"]}
  consistency: {<<: *assess, difficulty: {by: consistency, samples: 3}}
"""
REWARDED = """\
  rewarded:
    <<: *assess
    difficulty: {by: process_reward, kind: next_token, model: student, batch_size: 4}
"""


@pytest.mark.slow
def test_the_bundled_student_is_assessed(
    bench: Callable[[str], Any], cli: Callable[..., Any]
) -> None:
    """Also by itself as its reward model, which says nothing of worth but is asked and loaded."""
    toy = bench(PIPELINE + REWARDED)
    said = cli("run", toy.file, "--workspace", toy.workspace.root)
    assert said.code == 0, said.err
    assert "gold: 12 rows" in said.out
    for name in ("gold", "consistency", "rewarded"):
        manifest = json.loads((toy.artifact(name) / "manifest.json").read_text())
        figures = manifest["metrics"]
        assert figures["n"] == figures["n_with_reference"] == 12
        assert figures["n_difficult"] == sum(figures["reasons"].values())
        assert figures["errors"] == 0
        assert figures["verdict_accuracy"] == 1 or name != "gold"
    record = toy.run()
    assert toy.display.ran == []  # all reused
    gold, rewarded = toy.rows(record, "gold"), toy.rows(record, "rewarded")
    assert [row["completion"] for row in gold] == [row["completion"] for row in rewarded]
    for row in gold:
        assert row["is_difficult"] == (not row["is_correct"])
        assert len(row["steps"]) >= 1
    for row in rewarded:
        assert row["step_scores"] is None or len(row["step_scores"]) == len(row["steps"])
    assert any(row["step_scores"] for row in rewarded)
    assert manifest["models"]["student"]["identity"]
    same = toy.plan("stages.rewarded.difficulty.batch_size=2", "models.student.engine.batch_size=2")
    assert {action for action, _ in same.values()} == {"reuse"}
    other = toy.plan("models.student.engine.long_prompt=truncate")  # of the one who is asked
    assert other["rewarded"] == ("run", "model student changed")


def test_a_server_may_be_the_student_but_not_the_reward_model(bench: Callable[[str], Any]) -> None:
    served = PIPELINE + REWARDED
    toy = bench(served.replace("    model: student\n", "    model: server\n"))
    load_pipeline(str(toy.file))
    toy = bench(served.replace("next_token, model: student", "next_token, model: server"))
    with pytest.raises(ConfigError, match=r"rewarded\.difficulty\.model: 'server' is on a ser"):
        load_pipeline(str(toy.file))


def test_a_wrong_setting_is_named_with_what_its_rule_allows(bench: Callable[[str], Any]) -> None:
    toy = bench(PIPELINE.replace("samples: 3", "sample: 3"))
    with pytest.raises(ConfigError, match="did you mean 'samples'. allowed: by, least_votes, samp"):
        load_pipeline(str(toy.file))
    toy = bench(PIPELINE.replace("by: gold", "by: god"))
    with pytest.raises(ConfigError, match="got 'god'; allowed: 'gold', 'consistency', 'process_"):
        load_pipeline(str(toy.file))
