"""How large a model is, against what transformers loads and against published figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from llm_distill.models.size import saved_weights, size_of, weights_by_config

MODELS = sorted(
    path.parent
    for path in Path("data/models").glob("tiny-*/config.json")
    if "ForCausalLM" in path.read_text()
)

LLAMA_3_8B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
GPT2 = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
QWEN_2_5_0_5B = {
    "model_type": "qwen2",
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_attention_heads": 14,
    "num_hidden_layers": 24,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}


def folder_with(config, folder):
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("folder", MODELS, ids=lambda path: path.name)
def test_as_many_parameters_as_are_loaded(folder):
    model = AutoModelForCausalLM.from_pretrained(folder)
    real = {name: tuple(p.shape) for name, p in model.named_parameters()}
    size = size_of(folder)
    assert size.parameters == sum(p.numel() for p in model.parameters())
    assert size.bytes() == sum(p.nbytes for p in model.parameters())
    assert size.bytes("bfloat16") == size.bytes("float32") / 2
    assert {name: weight.shape for name, weight in size.weights.items()} == real
    assert {name: w.shape for name, w in weights_by_config(folder).items()} == real


@pytest.mark.parametrize(
    ("config", "parameters"),
    [(LLAMA_3_8B, 8_030_261_248), (QWEN_2_5_0_5B, 494_032_768), (GPT2, 124_439_808)],
    ids=["llama", "qwen", "gpt2"],
)
def test_published_counts_by_the_config_alone(config, parameters, tmp_path):
    assert size_of(folder_with(config, tmp_path)).parameters == parameters


def test_bytes_and_cache_of_llama_3_8b(tmp_path):
    size = size_of(folder_with(LLAMA_3_8B, tmp_path))
    assert size.bytes() == size.bytes("bfloat16") == 2 * 8_030_261_248
    assert size.bytes("float32") == 4 * 8_030_261_248
    assert size.cache_bytes(8192) == 2**30  # 2 x 32 layers x 8 heads x 128 x 2 bytes a token


def test_a_window_keeps_no_more_than_it_sees(tmp_path):
    kinds = ["full_attention"] + ["sliding_attention"] * 31
    config = {**LLAMA_3_8B, "layer_types": kinds, "sliding_window": 512}
    size = size_of(folder_with(config, tmp_path))
    assert size.cache_bytes(8192) == (8192 + 31 * 512) * 2 * 8 * 128 * 2
    latent = {**LLAMA_3_8B, "kv_lora_rank": 512}  # DeepSeek keeps something else
    assert size_of(folder_with(latent, tmp_path)).cache_bytes(8192) is None


def test_an_output_layer_that_is_the_embedding_counts_once(tmp_path):
    matrix, bias = torch.zeros(10, 4, dtype=torch.bfloat16), torch.zeros(3, dtype=torch.float32)
    weights = {
        "model.embed_tokens.weight": matrix,
        "lm_head.weight": matrix.clone(),
        "model.layers.0.self_attn.q_proj.bias": bias,
        "model.layers.0.self_attn.rotary_emb.inv_freq": bias.clone(),
    }
    save_file(weights, tmp_path / "model.safetensors")
    folder_with({"tie_word_embeddings": True}, tmp_path)
    assert size_of(tmp_path).parameters == 43
    assert size_of(tmp_path).bytes() == 40 * 2 + 3 * 4  # as saved, where the config does not say
    folder_with({"tie_word_embeddings": False}, tmp_path)
    assert size_of(tmp_path).parameters == 83


def test_the_files_that_the_index_names(tmp_path):
    save_file({"a": torch.zeros(3)}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"b": torch.zeros(5)}, tmp_path / "model-00002-of-00002.safetensors")
    save_file({"c": torch.zeros(7)}, tmp_path / "consolidated.safetensors")
    index = {f"{name}": f"model-0000{n}-of-00002.safetensors" for n, name in ((1, "a"), (2, "b"))}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert set(saved_weights(tmp_path)) == {"a", "b"}


def test_bytes_of_a_model_in_few_bits_are_those_of_its_files(tmp_path):
    save_file({"packed": torch.zeros(6, dtype=torch.uint8)}, tmp_path / "model.safetensors")
    config = {"dtype": "bfloat16", "quantization_config": {"quant_method": "awq"}}
    assert size_of(folder_with(config, tmp_path)).bytes() == 6


def test_what_cannot_be_known(tmp_path):
    assert size_of(tmp_path) is None
    assert size_of(folder_with({"model_type": "of_nobody"}, tmp_path)) is None
    (tmp_path / "config.json").write_text("{")
    assert size_of(tmp_path) is None
