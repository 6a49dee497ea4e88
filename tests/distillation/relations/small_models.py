"""Small models of several kinds with one tokenizer, and texts for them."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from llm_distill.models.sources import ModelSource
from tests.tiny_tokenizer import tiny_tokenizer

WORDS = [
    "opera",
    "film",
    "novel",
    "stage",
    "museum",
    "atom",
    "cell",
    "orbit",
    "gene",
    "lens",
    "goal",
    "club",
    "race",
    "cup",
    "team",
]


def texts(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Three to eight words each."""
    random = Random(seed)
    return [
        {"id": f"{seed}-{i}", "text": " ".join(random.choices(WORDS, k=random.randint(3, 8)))}
        for i in range(n)
    ]


def config(kind: str, *, width: int = 32, layers: int = 2, heads: int = 4) -> Any:
    """Of an encoder (bert, distilbert), or of a decoder (llama, with half as many key heads; opt,
    which has no rotary positions; gpt2, whose projections are one matrix).
    """
    from transformers import AutoConfig

    drawn = {"initializer_range": 0.1}
    sizes = {"num_hidden_layers": layers, "num_attention_heads": heads, "hidden_size": width}
    own: dict[str, dict[str, Any]] = {
        "bert": {
            "intermediate_size": 2 * width,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            **drawn,
        },
        "distilbert": {"hidden_dim": 2 * width, "dropout": 0.0, "attention_dropout": 0.0},
        "llama": {"intermediate_size": 2 * width, "num_key_value_heads": heads // 2, **drawn},
        "opt": {"ffn_dim": 2 * width, "dropout": 0.0, "word_embed_proj_dim": width},
        "gpt2": {},
    }
    return AutoConfig.for_model(kind, **sizes, **own[kind])


def saved(folder: Path, kind: str, seed: int = 1, texts_of_tokenizer: int = 60, **size: Any) -> Any:
    """A source called `m`."""
    import torch
    from transformers import AutoModel, AutoModelForCausalLM

    path = folder / f"{kind}-{seed}-{texts_of_tokenizer}-{'-'.join(map(str, size.values()))}"
    if not path.exists():
        many = [row["text"] for row in texts(texts_of_tokenizer, seed=texts_of_tokenizer)]
        tokenizer = tiny_tokenizer(many, 270 + texts_of_tokenizer)
        own = config(kind, **size)
        own.vocab_size = len(tokenizer)
        own.max_position_embeddings = 64
        own.pad_token_id, own.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
        own.bos_token_id = None
        torch.manual_seed(seed)
        made = AutoModel if "bert" in kind else AutoModelForCausalLM
        made.from_config(own).save_pretrained(path)
        tokenizer.save_pretrained(path)
    return ModelSource("m", str(path), prompt_format="text")
