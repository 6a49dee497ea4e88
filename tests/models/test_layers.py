"""Where a model has its layers, by its config."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from llm_distill.errors import ModelError
from llm_distill.models.layers import layer_stack

SIZES = {"vocab_size": 16, "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}


def test_a_layers_own_list_of_the_same_length_is_not_taken() -> None:
    model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=2, **SIZES))
    for layer in model.model.layers:
        layer.experts = torch.nn.ModuleList([torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)])
    place, layers = layer_stack(model, "m")
    assert place == "model.layers"
    assert layers is model.model.layers


def test_a_model_without_such_a_list_is_refused() -> None:
    model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=2, **SIZES))
    model.config.num_hidden_layers = 3
    with pytest.raises(ModelError, match=r"model 'm' \(LlamaForCausalLM\) has no list of 3 layers"):
        layer_stack(model, "m")
