"""Ask a saved model with transformers, many prompts at a time.

complete(load(path), ["…Let's think step by step."], chat=False) → [" <ans>7</ans>"]
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch


def load(path: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval(), tokenizer


def complete(
    loaded: tuple[Any, Any],
    prompts: Sequence[str],
    chat: bool,
    temperature: float = 0.0,
    max_new_tokens: int = 72,
    batch_size: int = 64,
) -> list[str]:
    """What the model writes after each prompt, up to its end token or the next question."""
    model, tokenizer = loaded
    if chat:
        prompts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
            )
            for prompt in prompts
        ]
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {}
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    texts = [""] * len(prompts)
    for start in range(0, len(prompts), batch_size):
        chosen = by_length[start : start + batch_size]
        batch = tokenizer([prompts[i] for i in chosen], return_tensors="pt", padding=True)
        with torch.inference_mode():
            out = model.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                max_new_tokens=max_new_tokens,
                **sampling,
            )
        new = out[:, batch["input_ids"].shape[1] :]
        written = tokenizer.batch_decode(new, skip_special_tokens=True)
        for i, text in zip(chosen, written, strict=True):
            texts[i] = text.split("\nQuestion:")[0]
    return texts


def answer_of(rationale: str) -> str | None:
    match = re.search(r"<ans>(.*?)</ans>", rationale)
    return match[1].strip() if match else None
