"""Smaller models: some of the layers as they were, or all weights drawn anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from llm_distill.errors import ModelError
from llm_distill.models.backbones import load_whole
from llm_distill.models.sources import ModelSource, own_tokenizer
from llm_distill.stages.make_student import MakeStudent
from llm_distill.stages.train_classifier import TrainClassifier
from tests.distillation.relations.small_models import saved, texts

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ModelSource]:
    folder = tmp_path_factory.mktemp("models")
    return lambda kind, **more: saved(folder, kind, **more)


def made(
    run_stage: Run, source: ModelSource, at: Path | None = None, seed: int = 0, **own: Any
) -> Any:
    stage = MakeStudent(stage="make_student", model="m", **own)
    return run_stage(stage, models={"m": source}, seed=seed, work_dir=at)


def source_of(run: Any) -> ModelSource:
    return ModelSource("m", str(run.model.directory), prompt_format="text")


@pytest.mark.parametrize("kind", ["bert", "llama", "gpt2"])
def test_some_layers_are_those_of_the_model(
    run_stage: Run, models: Callable[..., ModelSource], kind: str
) -> None:
    source = models(kind, layers=4)
    run = made(run_stage, source, layers=[2, 4])
    assert run.metrics["parameters"] < run.metrics["parameters_before"]
    student, whole = load_whole(source_of(run)), load_whole(source)
    assert student.config.num_hidden_layers == 2
    assert own_tokenizer(source_of(run)).get_vocab() == own_tokenizer(source).get_vocab()
    stack = {"bert": "encoder.layer", "llama": "layers", "gpt2": "h"}[kind]
    layers = whole.base_model.get_submodule(stack)
    for place in (2, 0):  # by hand: without the first and the third
        del layers[place]
    whole.base_model.config.num_hidden_layers = 2
    ids = torch.tensor([[4, 5, 6, 7]])
    with torch.no_grad():
        wanted, found = (model.base_model(ids, use_cache=False)[0] for model in (whole, student))
    assert torch.equal(wanted, found)


def test_all_layers_are_the_same_model(run_stage: Run, models: Callable[..., ModelSource]) -> None:
    source = models("llama")
    run = made(run_stage, source, layers=[1, 2])
    before = load_file(Path(source.path) / "model.safetensors")
    after = load_file(run.model.directory / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())


def test_weights_drawn_anew_are_the_seeds(
    run_stage: Run, models: Callable[..., ModelSource], tmp_path: Path
) -> None:
    source, size = models("bert"), {"hidden_size": 16, "num_hidden_layers": 1}
    one, again, other = (
        load_file(
            made(run_stage, source, tmp_path / str(n), seed, config=size).model.directory
            / "model.safetensors"
        )
        for n, seed in enumerate((1, 1, 2))
    )
    name = "encoder.layer.0.attention.self.query.weight"
    assert one[name].shape == (16, 16)
    assert "encoder.layer.1.attention.self.query.weight" not in one
    assert torch.equal(one[name], again[name])
    assert not torch.equal(one[name], other[name])
    same = made(run_stage, source, tmp_path / "same", config={})
    before = load_file(Path(source.path) / "model.safetensors")
    after = load_file(same.model.directory / "model.safetensors")
    assert {n: w.shape for n, w in before.items()} == {n: w.shape for n, w in after.items()}
    assert not torch.equal(
        before["embeddings.word_embeddings.weight"], after["embeddings.word_embeddings.weight"]
    )


def test_the_head_of_a_classifier_is_not_kept(
    run_stage: Run, models: Callable[..., ModelSource], tmp_path: Path
) -> None:
    rows = [{**row, "label": "ab"[n % 2]} for n, row in enumerate(texts(8))]
    stage = TrainClassifier(stage="train_classifier", model="m", rows="r", max_steps=1)
    classifier = run_stage(stage, {"r": rows}, models={"m": models("bert")})
    run = made(run_stage, source_of(classifier), tmp_path / "student", layers=[1])
    config = json.loads((run.model.directory / "config.json").read_text())
    assert config["architectures"] == ["BertModel"]
    names = load_file(run.model.directory / "model.safetensors")
    assert not any("classifier" in name for name in names)


def test_an_encoder_without_a_pooler_is_whole(
    models: Callable[..., ModelSource], tmp_path: Path
) -> None:
    """As masked language models are saved; what pools comes after the hidden states."""
    from transformers import AutoConfig, BertForMaskedLM

    source = models("bert")
    BertForMaskedLM(AutoConfig.from_pretrained(source.path)).save_pretrained(tmp_path / "masked")
    own_tokenizer(source).save_pretrained(tmp_path / "masked")
    masked = ModelSource("m", str(tmp_path / "masked"), prompt_format="text")
    assert type(load_whole(masked)).__name__ == "BertModel"


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ({"layers": [1, 3]}, "layers: 3, but model 'm' has 2; allowed: 1 to 2"),
        ({"config": {"hidden_sise": 8}}, "has no such field; did you mean hidden_size"),
        ({"config": {"hidden_size": 33}}, "config: no BertModel can be made of it"),
    ],
)
def test_what_cannot_be_made(
    run_stage: Run, models: Callable[..., ModelSource], own: dict[str, Any], says: str
) -> None:
    with pytest.raises(ModelError, match=says):
        made(run_stage, models("bert"), **own)


@pytest.mark.parametrize(
    "own", [{}, {"layers": [1], "config": {}}, {"layers": [0]}, {"layers": []}]
)
def test_settings_that_do_not_fit(own: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MakeStudent(stage="make_student", model="m", **own)
