"""Models that stand in for real ones: minute and random, asked through `rehearsal.answers`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from llm_distill.paths import bundled_root

ANSWERS = "llm_distill.rehearsal.answers:answer"
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
SIZES = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 8192,
}
TOKENIZERS = ("tiny-teacher", "tiny-student")
"""Of the first model of a file, and of its others: they differ, as in many pipelines."""
REWARD = "data/models/tiny-stat-reward"


def make(folder: Path, index: int) -> Path:
    """A Llama of one layer with a tokenizer of a bundled model."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    place = folder / f"model{min(index, 1)}"
    if (place / "model.safetensors").is_file():
        return place
    own = bundled_root() / "data" / "models" / TOKENIZERS[min(index, 1)]
    tokenizer: Any = AutoTokenizer.from_pretrained(str(own))
    tokenizer.chat_template = TEMPLATE
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(index)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **SIZES, **ends))
    model.save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


def stand_ins(
    models: Mapping[str, Mapping[str, Any]],
    rewards: Collection[str],
    scored: Collection[str],
    folder: Path,
) -> dict[str, dict[str, Any]]:
    """Entries of `models:`.

    rewards: those that judge steps, for which the bundled reward model stands in.
    scored: those whose likelihoods of texts are asked for; a script has none, so these really run.
    """
    found: dict[str, dict[str, Any]] = {}
    for index, (name, own) in enumerate(models.items()):
        if name in rewards:
            found[name] = {"model_name_or_path": REWARD}
            continue
        found[name] = {
            "model_name_or_path": str(make(folder, index)),
            "prompt_format": own.get("prompt_format", "chat"),
        }
        if name not in scored:
            found[name]["engine"] = {"kind": "scripted", "function": ANSWERS}
    return found
