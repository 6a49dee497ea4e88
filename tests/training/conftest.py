"""A tiny random Llama with its own tokenizer, and a quick way to ask it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_distill.engines.base import Request, SamplingSettings
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.models.sources import ModelSource
from llm_distill.prompts import as_messages
from llm_distill.stage import ModelOutput
from tests.tiny_tokenizer import on_one_thread, tiny_tokenizer

NAMES = ("Ann", "Bob", "Cem", "Dia", "Eli", "Fay", "Gus", "Hal")
ROWS = [
    {
        "id": f"r{i}",
        "prompt": f"How old is {name}?\nAnswer:",
        "completion": f"{name} is {21 + 7 * i}.",
    }
    for i, name in enumerate(NAMES)
]


def make_tokenizer():
    text = [row["prompt"] + " " + row["completion"] for row in ROWS]
    return tiny_tokenizer([*text, "ab ab ab abab"] * 3, 330)


one_thread = pytest.fixture(on_one_thread, scope="session", autouse=True)


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    path = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = make_tokenizer()
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        head_dim=32,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def text_model(model_dir: Path) -> ModelSource:
    return ModelSource("tiny", str(model_dir), prompt_format="text")


@pytest.fixture(scope="session")
def chat_model(model_dir: Path) -> ModelSource:
    return ModelSource("tiny", str(model_dir), prompt_format="chat")


@pytest.fixture(scope="session")
def pad_is_eos_model(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    """The same model, whose tokenizer has no pad token of its own."""
    path = tmp_path_factory.mktemp("models") / "no_pad"
    shutil.copytree(model_dir, path)
    for name, key in (("tokenizer_config.json", "pad_token"), ("config.json", "pad_token_id")):
        settings = json.loads((path / name).read_text())
        del settings[key]
        (path / name).write_text(json.dumps(settings))
    return ModelSource("no_pad", str(path), prompt_format="text")


@pytest.fixture
def ask() -> Callable[..., list[tuple[str, str]]]:
    """(text, finish reason) of greedy completions by the engine that pipelines use."""

    def answers(source: ModelSource, prompts: list[str]) -> list[tuple[str, str]]:
        from llm_distill.engines.transformers.engine import TransformersEngine

        greedy = SamplingSettings(temperature=0, max_tokens=40)
        engine = TransformersEngine(source, TransformersSettings(device="cpu"))
        wrap = as_messages if source.prompt_format == "chat" else str
        requests = [Request(str(i), wrap(p), greedy) for i, p in enumerate(prompts)]
        found = {c.id: (c.text.strip(), c.finish_reason) for c in engine.generate(requests)}
        engine.close()
        return [found[str(i)] for i in range(len(prompts))]

    return answers


@pytest.fixture
def rows() -> list[dict[str, str]]:
    return [dict(row) for row in ROWS]


@pytest.fixture
def trained() -> Callable[[ModelOutput, ModelSource], ModelSource]:
    """What a stage gave, as the next stage is given it."""

    def source_of(output: ModelOutput, source: ModelSource) -> ModelSource:
        directory = str(output.directory)
        if output.base is None:
            return ModelSource("trained", directory, prompt_format=source.prompt_format)
        adapters = (*output.base.adapters, directory)
        return ModelSource(
            "trained", output.base.path, adapters=adapters, prompt_format=source.prompt_format
        )

    return source_of


@pytest.fixture
def weights() -> Callable[[Path], dict[str, Any]]:
    """All tensors of a saved model or adapter."""
    from safetensors.torch import load_file

    def load(directory: Path) -> dict[str, Any]:
        files = sorted(directory.glob("*.safetensors"))
        return {name: tensor for file in files for name, tensor in load_file(file).items()}

    return load
