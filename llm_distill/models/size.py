"""How large a model is: the shapes of its weights, from the heads of its files or its config.

    {"model.embed_tokens.weight": Weight((49152, 576), "F32"), ...}

No weights are read or downloaded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

BITS = {
    "F64": 64,
    "I64": 64,
    "U64": 64,
    "F32": 32,
    "I32": 32,
    "U32": 32,
    "F16": 16,
    "BF16": 16,
    "I16": 16,
    "U16": 16,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "I8": 8,
    "U8": 8,
    "BOOL": 8,
    "F4": 4,
}
"""Of one number, by safetensors' names of types."""
NAMES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "float64": "F64"}
"""Torch's names of types, as configs have them."""
BUFFERS = ("inv_freq", "masked_bias", "attn.bias", "attention.bias")
"""Ends of names that older files have beside the parameters, of GPT-2 and others."""
EMBEDDING = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
HEAD = ("lm_head.weight", "embed_out.weight")


@dataclass(frozen=True)
class Weight:
    """A parameter. dtype: as safetensors calls it."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def numel(self) -> int:
        return prod(self.shape)

    @property
    def bytes(self) -> float:
        return self.numel * BITS.get(self.dtype, 32) / 8


@dataclass(frozen=True)
class ModelSize:
    """weights: by name, each once. config: as in config.json."""

    weights: Mapping[str, Weight]
    config: Mapping[str, Any]

    @property
    def parameters(self) -> int:
        return sum(weight.numel for weight in self.weights.values())

    @property
    def is_packed(self) -> bool:
        """Whether it was saved in few bits: then the bytes are known, and the parameters not."""
        return "quantization_config" in self.config

    def bytes(self, dtype: str = "auto") -> int:
        """In memory. dtype: float32, bfloat16 or float16; auto: as transformers loads it."""
        if dtype == "auto":
            dtype = str(self.text_config.get("dtype") or self.text_config.get("torch_dtype"))
        cast = None if self.is_packed else NAMES.get(dtype)
        return int(
            sum(
                w.bytes if cast is None else w.numel * BITS[cast] / 8 for w in self.weights.values()
            )
        )

    @property
    def text_config(self) -> Mapping[str, Any]:
        """Of a model that also sees, what concerns text; else all of it."""
        inner = self.config.get("text_config")
        return {**self.config, **inner} if isinstance(inner, dict) else self.config

    def embeddings(self) -> dict[str, Weight]:
        """The embedding, and the output layer where it has weights of its own."""
        return {n: w for n, w in self.weights.items() if n.endswith((*EMBEDDING, *HEAD))}

    def cache_bytes(self, n_tokens: int, bytes_each: int = 2) -> int | None:
        """Of keys and values of a sequence; None for attention that keeps something else."""
        config = self.text_config
        heads, layers = config.get("num_attention_heads"), config.get("num_hidden_layers")
        if not heads or not layers or "kv_lora_rank" in config:
            return None
        width = config.get("head_dim") or config["hidden_size"] // heads
        kinds = config.get("layer_types") or ["full_attention"] * layers
        within = min(n_tokens, config.get("sliding_window") or n_tokens)
        kept = {"full_attention": n_tokens, "sliding_attention": within}
        n_kept = sum(kept.get(kind, 0) for kind in kinds)
        return int(2 * n_kept * (config.get("num_key_value_heads") or heads) * width * bytes_each)


def size_of(folder: Path) -> ModelSize | None:
    """Of the model in a folder: exact where its weights are there, else by its config.

    None where neither says.
    """
    config = _config(folder)
    if config is None:
        return None
    weights = saved_weights(folder)
    if not weights and not any(folder.glob("*.safetensors")):
        weights = weights_by_config(folder)
    elif config.get("tie_word_embeddings"):
        weights = _without_copies(weights)
    return ModelSize(weights, config) if weights else None


def saved_weights(folder: Path) -> dict[str, Weight]:
    """Of the safetensors files, from their heads; of several formats, the sharded or plain one."""
    index = folder / "model.safetensors.index.json"
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        files = [folder / name for name in sorted(names)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        plain = folder / "model.safetensors"
        files = [plain] if plain.is_file() else sorted(folder.glob("*.safetensors"))
    found: dict[str, Weight] = {}
    try:
        for file in files:
            with safe_open(file, framework="numpy") as content:
                for name in content.keys():  # noqa: SIM118
                    part = content.get_slice(name)
                    if not name.endswith(BUFFERS):
                        found[name] = Weight(tuple(part.get_shape()), str(part.get_dtype()))
    except (OSError, SafetensorError):
        return {}
    return found


def weights_by_config(folder: Path) -> dict[str, Weight]:
    """Of the model that transformers would make of config.json, without any memory for it.

    Empty where it does not know the architecture.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    by_type = {getattr(torch, name): short for name, short in NAMES.items()}
    try:
        config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
        with torch.device("meta"):
            model: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        saved = getattr(config.get_text_config(decoder=True), "dtype", None) or torch.float32
    except Exception:  # files of others: whatever the library makes of them
        return {}
    kind = by_type.get(saved, "F32")
    return {name: Weight(tuple(p.shape), kind) for name, p in model.named_parameters()}


def _config(folder: Path) -> dict[str, Any] | None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) else None


def _without_copies(weights: dict[str, Weight]) -> dict[str, Weight]:
    """Without an output layer that was saved although it is the embedding."""
    shapes = [weight.shape for name, weight in weights.items() if name.endswith(EMBEDDING)]
    return {
        name: weight
        for name, weight in weights.items()
        if not (name.endswith(HEAD) and weight.shape in shapes)
    }
