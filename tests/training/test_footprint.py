"""The memory of a training, against PEFT's own adapters and torch's own optimizer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM

from llm_distill.models.size import size_of
from llm_distill.training.footprint import footprint, trained_by
from llm_distill.training.lora import lora_config
from llm_distill.training.settings import LoraSettings, TrainingSettings

TINY = Path("data/models/tiny-student")


def loaded():
    return AutoModelForCausalLM.from_pretrained(TINY)


def trained(model):
    return [p for p in model.parameters() if p.requires_grad]


@pytest.mark.parametrize(
    "peft",
    [
        {},
        {"r": 4, "target_modules": ("q_proj", "v_proj")},
        {"target_modules": r".*\.(up|down)_proj"},
        {"use_dora": True},
        {"train_embeddings": True},
        {"modules_to_save": ("norm",)},
    ],
    ids=str,
)
def test_an_adapter_has_as_many_parameters_as_pefts(peft):
    settings = LoraSettings(**peft)
    model = loaded()
    model = get_peft_model(model, lora_config(TrainingSettings(peft=settings), model))
    found = trained_by(settings, size_of(TINY).weights)
    assert found.adapter + found.copied == sum(p.numel() for p in trained(model))
    assert (found.copied > 0) == (settings.train_embeddings or bool(settings.modules_to_save))


@pytest.mark.parametrize("peft", [None, LoraSettings()], ids=["full", "lora"])
def test_gradients_and_optimizer_are_as_large_as_torchs(peft):
    settings = TrainingSettings(peft=peft)
    model = loaded()
    if peft is not None:
        model = get_peft_model(model, lora_config(settings, model))
    optimizer = torch.optim.AdamW(trained(model))
    model(input_ids=torch.tensor([[1, 2, 3]])).logits.sum().backward()
    optimizer.step()
    states = [s for state in optimizer.state.values() for s in state.values() if s.ndim]
    found = footprint(settings, size_of(TINY), "float32")
    assert found.weights == sum(p.nbytes for p in model.parameters())
    assert found.gradients == sum(p.grad.nbytes for p in trained(model))
    assert found.optimizer == sum(state.nbytes for state in states)
    assert found.saved == sum(p.nbytes for p in trained(model))
    assert found.checkpoint == found.saved + found.optimizer


def test_a_base_that_lies_still_keeps_its_dtype():
    size, settings = size_of(TINY), TrainingSettings(peft=LoraSettings())
    whole, half = (footprint(settings, size, dtype).weights for dtype in ("float32", "bfloat16"))
    assert whole - half == size.parameters * 2
    few = footprint(settings, size, "float32", bits=4).weights
    embedding = 576 * 96
    norms = (3 * 2 + 1) * 96
    linear = size.parameters - embedding - norms
    assert few == pytest.approx(whole - linear * 3.5, abs=4)


@pytest.mark.parametrize(
    ("strategy", "of_weights", "of_steps"),
    [("ddp", 1, 1), ("zero2", 1, 4), ("zero3", 4, 4), ("fsdp2", 4, 4)],
)
def test_what_a_strategy_divides(strategy, of_weights, of_steps):
    found = footprint(TrainingSettings(), size_of(TINY), "float32", has_reference=True)
    n = size_of(TINY).parameters * 4
    assert found.on_each(4, strategy) == {
        "weights": n // of_weights,
        "gradients": n // of_steps,
        "optimizer": 2 * n // of_steps,
        "reference": n // of_weights,
    }


def test_of_an_optimizer_that_is_not_adamw_nothing_is_said():
    settings = TrainingSettings(trainer_arguments={"optim": "adafactor"})
    found = footprint(settings, size_of(TINY), "float32")
    assert found.optimizer is None
    assert "optimizer" not in found.on_each(1, "ddp")
