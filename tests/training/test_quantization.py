"""An adapter on a base of 4 or 8 bits."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from llm_distill.models.sources import load_model
from llm_distill.stages.train_dpo import TrainDpo
from llm_distill.stages.train_sft import TrainSft
from llm_distill.training import settings as training_settings
from llm_distill.training.quantization import QuantizationSettings, bits_and_bytes
from llm_distill.training.weights import load_start, merge_adapters
from tests.training.test_ranks import LORA, SETTINGS, some_rows, train

pytest.importorskip("bitsandbytes")

KINDS = {"sft": TrainSft, "dpo": TrainDpo}


def start(source, bits=4):
    settings = QuantizationSettings(bits=bits)
    return load_start(source, bits_and_bytes(settings, torch.float32)).model


def logits(model):
    with torch.no_grad():
        return model(input_ids=torch.arange(1, 30)[None]).logits


def test_what_lies_in_four_bits_is_the_model_rounded(text_model):
    """Each linear layer but the last, to what its 4 bits and scales say."""
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    few, plain = start(text_model), load_model(text_model)
    layers = {n: m for n, m in few.named_modules() if isinstance(m, Linear4bit)}
    linear = {n for n, m in plain.named_modules() if isinstance(m, torch.nn.Linear)}
    assert layers.keys() == linear - {"lm_head"}
    for name, layer in layers.items():
        rounded = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        own = plain.get_submodule(name).weight
        assert layer.weight.dtype == torch.uint8
        assert (rounded - own).abs().max() < 0.2 * own.abs().max()
        own.data = rounded.to(own.dtype)
    assert torch.allclose(logits(few), logits(plain), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [4, 8])
def test_an_adapter_is_trained_on_it(kind, bits, rows, text_model, tmp_path):
    own = {"peft": {"r": 4}, "quantization": {"bits": bits}, "num_train_epochs": 6}
    stage = KINDS[kind](**{**SETTINGS, "stage": f"train_{kind}", **own})
    done = train(stage, tmp_path / "one", some_rows(rows), text_model)
    losses = [point["loss"] for point in done.manifest["metrics"]["history"]]
    assert losses[-1] < losses[0] - 0.01
    found = load_file(done.directory / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    assert any((tensor.bfloat16().float() != tensor).any() for tensor in found.values())


@pytest.mark.slow
def test_two_processes_train_what_one_does(rows, text_model, weights, tmp_path):
    settings = {**SETTINGS, "stage": "train_sft", "peft": LORA, "quantization": {"bits": 4}}
    one = train(TrainSft(**settings), tmp_path / "one", some_rows(rows), text_model)
    shared = TrainSft(**settings, launch={"processes": 2})
    two = train(shared, tmp_path / "two", some_rows(rows), text_model)
    expected, found = weights(one.directory), weights(two.directory)
    assert max((expected[name] - found[name]).abs().max() for name in expected) < 1e-4


def test_an_earlier_adapter_is_merged_before(rows, text_model, trained, tmp_path):
    stage = TrainSft(**{**SETTINGS, "stage": "train_sft", "peft": LORA, "learning_rate": 0.03})
    done = train(stage, tmp_path / "first", some_rows(rows), text_model)
    from llm_distill.stage import ModelOutput

    adapted = trained(ModelOutput(done.directory, base=text_model), text_model)
    merge_adapters(adapted, tmp_path / "merged")
    whole = trained(ModelOutput(tmp_path / "merged"), text_model)
    assert torch.equal(logits(start(adapted)), logits(start(whole)))
    assert not torch.allclose(logits(start(adapted)), logits(start(text_model)), atol=1e-2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peft": None, "quantization": {"bits": 4}}, "quantization needs peft"),
        ({"peft": LORA, "quantization": {"bits": 3}}, "4 or 8"),
        (
            {"peft": LORA, "quantization": {"bits": 4}, "launch": {"strategy": "fsdp2"}},
            "whole on each device",
        ),
    ],
)
def test_what_cannot_be_is_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        TrainSft(stage="train_sft", model="m", rows="r", **settings)


def test_a_missing_package_is_told(monkeypatch):
    stage = TrainSft(stage="train_sft", model="m", rows="r", peft=LORA, quantization={"bits": 4})
    assert list(stage.missing()) == []
    monkeypatch.setattr(training_settings, "find_spec", lambda name: None)
    [(place, message)] = stage.missing()
    assert (place, "llm-distill[qlora]" in message) == ("quantization", True)
