"""Heads of classifiers: kept by the names of their classes, and never by their places."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from llm_distill.models.class_embeddings import output_layer
from llm_distill.models.classifiers import class_names, load_classifier
from llm_distill.models.sources import ModelSource
from tests.tiny_tokenizer import tiny_tokenizer

SIZE: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "pad_token_id": 0,
}
HELD = ["arts", "sports", "weather"]


@pytest.fixture(params=["Bert", "Roberta", "Llama"])
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> ModelSource:
    """A classifier of `HELD`."""
    import transformers

    names = {"id2label": dict(enumerate(HELD)), "label2id": {n: i for i, n in enumerate(HELD)}}
    config = getattr(transformers, f"{request.param}Config")(**SIZE, **names)
    torch.manual_seed(1)
    model = getattr(transformers, f"{request.param}ForSequenceClassification")(config)
    for parameter in output_layer(model).parameters():
        torch.nn.init.normal_(parameter)
    model.save_pretrained(tmp_path / "model")
    tiny_tokenizer(["a text"], 40).save_pretrained(tmp_path / "model")
    return ModelSource("m", str(tmp_path / "model"), prompt_format="text")


def loaded(source: ModelSource, classes: Sequence[str] | None, seed: int = 2) -> Any:
    torch.manual_seed(seed)
    model = load_classifier(source, classes)
    assert class_names(model.config) == list(classes or HELD)
    assert model.config.label2id == {name: i for i, name in enumerate(classes or HELD)}
    return model


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(torch.tensor([[5, 6, 7]])).logits[0]
    return found


def test_a_head_of_the_same_classes_is_kept_by_name(saved: ModelSource) -> None:
    as_it_is = dict(zip(HELD, logits(loaded(saved, None)).tolist(), strict=True))
    for classes in (HELD, ["weather", "arts", "sports"]):
        found = logits(loaded(saved, classes))
        assert found.tolist() == pytest.approx([as_it_is[name] for name in classes])


@pytest.mark.parametrize("classes", [["sports", "arts", "rail"], ["sports", "arts"]])
def test_other_classes_get_a_new_head(saved: ModelSource, classes: list[str]) -> None:
    """Of as many names and of fewer, and none of its rows is one that was there."""
    old = output_layer(loaded(saved, None)).weight
    layer = output_layer(loaded(saved, classes))
    assert not any(torch.equal(row, other) for row in layer.weight for other in old)
    assert layer.weight.std() < 0.1  # as transformers draws one: 0.02
    assert layer.bias is None or not layer.bias.any()
    again, other = (output_layer(loaded(saved, classes, seed)) for seed in (2, 3))
    assert torch.equal(again.weight, layer.weight)
    assert not torch.equal(other.weight, layer.weight)
