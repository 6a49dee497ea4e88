"""Two tiny random models whose tokenizers cut the same rows differently, and a plain reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llm_distill.models.sources import ModelSource
from tests.tiny_tokenizer import tiny_tokenizer

FEW_PIECES = ["is it very old years or so", "e of r s"]
NAMES = ("Ann", "Bob", "Cem", "Dia", "Eli", "Fay", "Gus", "Hal")
ROWS = [
    {
        "id": f"r{i}",
        "prompt": f"How old is {name}?\nAnswer:",
        "completion": f"{name} is {21 + 7 * i} years, café → {'very ' * i}old.",
    }
    for i, name in enumerate(NAMES)
]


def save(path: Path, of: Any, seed: int, hidden_size: int = 32, dropout: float = 0.0) -> None:
    """A random Llama with this tokenizer; its logits are large enough to be sure of some tokens."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(of),
        hidden_size=hidden_size,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        head_dim=hidden_size // 2,
        max_position_embeddings=256,
        attention_dropout=dropout,
        bos_token_id=None,
        eos_token_id=of.eos_token_id,
        pad_token_id=of.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.lm_head.weight.data *= 24
    model.save_pretrained(path)
    of.save_pretrained(path)


def texts() -> list[str]:
    return [row["prompt"] + " " + row["completion"] for row in ROWS]


def make_teacher(folder: Path) -> ModelSource:
    """Speaks chat; its tokenizer knows most words."""
    save(folder / "teacher", tiny_tokenizer(texts() * 3, 340), seed=1, hidden_size=48)
    return ModelSource("teacher", str(folder / "teacher"), prompt_format="chat")


def make_student(folder: Path) -> ModelSource:
    """Continues text; its tokenizer knows a few pieces."""
    save(folder / "student", tiny_tokenizer(FEW_PIECES, 268), seed=2)
    return ModelSource("student", str(folder / "student"), prompt_format="text")


def as_sampled(student: ModelSource, rows: list[dict[str, Any]] = ROWS) -> list[dict[str, Any]]:
    """The rows as if the student had written them, in tokens that are not those of the text.

    Its likelihoods then were nearly those of now.
    """
    import torch

    from llm_distill.distillation.alignment.encoding import row_encoder
    from llm_distill.models.sources import load_model
    from tests.distillation import plain

    encoder, model = row_encoder(student, None), load_model(student)
    draw = torch.Generator().manual_seed(0)
    found = []
    for row in rows:
        said, half = " " + row["completion"], 3
        parts = (said[:half], said[half:])
        of_parts = encoder.tokenizer(list(parts), add_special_tokens=False)["input_ids"]
        ids = [*of_parts[0], *of_parts[1], encoder.tokenizer.eos_token_id]
        with torch.no_grad():
            logps = plain.side(student, row, model, ids).logps
        noise = 0.3 * torch.randn(len(ids), generator=draw)
        own = {"completion_ids": ids, "rollout_logps": (logps + noise).clamp(max=0).tolist()}
        writer = {"written_by": "student 0123", "written_with": encoder.vocabulary}
        found.append({**row, **own, **writer, "finish_reason": "stop"})
    return found
