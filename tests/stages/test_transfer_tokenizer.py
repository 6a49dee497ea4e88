"""The stage's settings, and what it hands on."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from llm_distill.models.sources import ModelSource, load_tokenizer
from llm_distill.paths import bundled_root
from llm_distill.stage import references
from llm_distill.stages.transfer_tokenizer import TransferTokenizer

MODELS = {
    name: ModelSource(name, str(bundled_root() / f"data/models/{path}"))
    for name, path in (("base", "tiny-teacher"), ("other", "tiny-student"))
}


def stage(**settings) -> TransferTokenizer:
    return TransferTokenizer(stage="transfer_tokenizer", model="base", **settings)


@pytest.mark.parametrize("settings", [{}, {"tokenizer": "other", "to_bytes": True}])
def test_either_a_tokenizer_or_bytes(settings) -> None:
    with pytest.raises(ValidationError, match="give either tokenizer, the model whose"):
        stage(**settings)


def test_the_model_comes_first_and_the_stage_loads_both() -> None:
    made = stage(tokenizer="other")
    assert references(made) == [("model", "base", "model"), ("tokenizer", "other", "model")]
    assert made.loads("model")
    assert made.loads("tokenizer")


def test_it_gives_a_whole_model_and_counts_its_tokens(run_stage) -> None:
    run = run_stage(stage(tokenizer="other"), models=MODELS)
    assert run.model.base is None
    names = {path.name for path in run.model.directory.iterdir()}
    assert names == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json", "chat_template.jinja",
    }  # fmt: skip
    assert len(load_tokenizer(ModelSource("moved", str(run.model.directory)))) == 576
    assert run.metrics["n_tokens"] == 576
    assert sum(run.metrics.values()) == 2 * 576
    assert run.warnings == []
    for file in run.model.directory.iterdir():
        assert str(bundled_root()).encode() not in file.read_bytes(), file.name


def test_it_gives_the_same_twice(run_stage, tmp_path) -> None:
    runs = [
        run_stage(stage(to_bytes=True), models=MODELS, work_dir=tmp_path / name) for name in "ab"
    ]
    first, second = (run.model.directory for run in runs)
    for file in first.iterdir():
        assert file.read_bytes() == (second / file.name).read_bytes(), file.name
