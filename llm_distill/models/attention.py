"""By which of transformers' ways a model computes its attention."""

from __future__ import annotations

from typing import Any, Literal

from llm_distill.errors import ModelError

Attention = Literal["sdpa", "eager", "flex_attention", "flash_attention_2", "flash_attention_3"]

IGNORES_THE_CAP = "sdpa"
"""PyTorch's, which transformers takes unless told otherwise. It has no cap on attention logits."""


def attention(config: Any, wanted: Attention | None, name: str) -> Attention | None:
    """Which to load a model with; None leaves it to transformers.

    config: the model's, of its text part. Gemma 2 caps its attention logits (arXiv 2408.00118,
    section 2): transformers' default would ignore that, without a word, and give other likelihoods.

    Raises:
        ModelError: what is wanted ignores the cap.
    """
    cap = getattr(config, "attn_logit_softcapping", None)
    if not cap or wanted not in (None, IGNORES_THE_CAP):
        return wanted
    if wanted == IGNORES_THE_CAP:
        raise ModelError(
            f"model '{name}' caps its attention logits at {cap:g}, which attn_implementation: sdpa "
            "ignores; leave it out for eager, or set flex_attention or flash_attention_2"
        )
    return "eager"
