"""Tiny random reward models of both kinds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from llm_distill.models.sources import ModelSource
from tests.engines.conftest import save_model, save_tokenizer

SEPARATOR = "<extra_0>"
QWEN_TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}</s>\n{% endfor %}"


@pytest.fixture(scope="session")
def next_token(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ModelSource]:
    """A causal Llama; with a chat template, or without one for plain text."""

    def build(prompt_format: Any = "chat", **config: Any) -> ModelSource:
        path = tmp_path_factory.mktemp("next-token")
        save_model(path, len(save_tokenizer(path)), **{"max_position_embeddings": 512, **config})
        return ModelSource("reward", str(path), prompt_format=prompt_format)

    return build


@pytest.fixture(scope="session")
def qwen_prm(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    """A checkpoint as Qwen2.5-Math-PRM's: score.0 and score.2, and a config that names code.

    Its reference module lies beside it, pickled by no one: `reference_head` builds it again.
    """
    from safetensors.torch import save_file
    from transformers import Qwen2Config, Qwen2Model

    path = tmp_path_factory.mktemp("qwen-prm")
    tokenizer = save_tokenizer(path)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|system|>", SEPARATOR]})
    tokenizer.chat_template = QWEN_TEMPLATE
    tokenizer.save_pretrained(path)
    torch.manual_seed(3)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512,
        initializer_range=0.2,
    )  # fmt: skip
    tensors = {f"model.{k}": v for k, v in Qwen2Model(config).state_dict().items()}
    for name, shape in {"0": (32, 32), "2": (2, 32)}.items():
        tensors[f"score.{name}.weight"] = torch.randn(shape) * 0.3
        tensors[f"score.{name}.bias"] = torch.randn(shape[0]) * 0.3
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    config.architectures = ["Qwen2ForProcessRewardModel"]
    values = config.to_dict()
    values["auto_map"] = {"AutoModel": "modeling_qwen2_rm.Qwen2ForProcessRewardModel"}
    (path / "config.json").write_text(json.dumps(values))
    (path / "modeling_qwen2_rm.py").write_text("raise SystemExit('code out of a model was run')\n")
    return ModelSource("reward", str(path))


@pytest.fixture(scope="session")
def trl_prm(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    """A token classifier as TRL's trainer saves it; plain text, a line's end after each step."""
    from transformers import LlamaConfig, LlamaForTokenClassification

    path = tmp_path_factory.mktemp("trl-prm")
    tokenizer = save_tokenizer(path)
    torch.manual_seed(4)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512, num_labels=2,
        initializer_range=0.2, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    LlamaForTokenClassification(config).save_pretrained(path)
    return ModelSource("reward", str(path), prompt_format="text")


def tensors_of(source: ModelSource) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(Path(source.path) / "model.safetensors")
