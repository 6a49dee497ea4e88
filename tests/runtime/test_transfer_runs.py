"""A model with another tokenizer, in a run: reused, made again, trained and asked."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_distill.errors import ConfigError
from llm_distill.paths import bundled_root
from llm_distill.pipeline.load import load_pipeline

PIPELINE = """\
name: transfer
models:
  base: {model_name_or_path: data/models/tiny-teacher}
  other: {model_name_or_path: OTHER, prompt_format: text}
stages:
  seeds: {stage: load_dataset, path: data/word_problems, split: seeds, limit: 6}
  moved: {stage: transfer_tokenizer, model: base, tokenizer: other}
  texts:
    stage: generate
    rows: seeds
    model: moved
    template: arte/rationale_recall.jinja
    variables: {task_description: "Solve the word problem."}
    sampling: {temperature: 0, max_tokens: 8}
  trained:
    stage: train_sft
    model: moved
    rows: texts
    max_steps: 1
    peft: {r: 2}
  texts_of_trained:
    stage: generate
    rows: seeds
    model: trained
    template: arte/rationale_recall.jinja
    variables: {task_description: "Solve the word problem."}
    sampling: {temperature: 0, max_tokens: 8}
"""


@pytest.mark.slow
def test_a_run_goes_on_from_it_and_another_tokenizer_makes_it_again(
    bench: Callable[[str], Any], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(bundled_root() / "data/models/tiny-student", other)
    toy = bench(PIPELINE.replace("OTHER", str(other)))
    record = toy.run()
    assert toy.display.ran == ["seeds", "moved", "texts", "trained", "texts_of_trained"]
    for stage in ("texts", "texts_of_trained"):
        rows = toy.rows(record, stage)
        assert len(rows) == 6
        assert all(row["completion"] for row in rows)
    toy.run()
    assert toy.display.ran == []
    # To bytes, which needs no other model.
    assert (
        toy.plan("stages.moved.tokenizer=null", "stages.moved.to_bytes=true")["moved"][0] == "run"
    )
    # The same name, with another tokenizer in it.
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(bundled_root() / "data/models/tiny-teacher" / name, other / name)
    toy.run()
    assert toy.display.ran == ["moved", "texts", "trained", "texts_of_trained"]


def test_a_server_has_no_tokenizer_to_give(tmp_path: Path) -> None:
    server = '{model_name_or_path: x, engine: {kind: openai, base_url: "http://localhost:1/v1"}}'
    lines = [f"  other: {server}" if "OTHER" in line else line for line in PIPELINE.splitlines()]
    (tmp_path / "file.yaml").write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=r"stages\.moved\.tokenizer"):
        load_pipeline(str(tmp_path / "file.yaml"))
