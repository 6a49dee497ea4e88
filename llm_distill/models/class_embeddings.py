"""What a classifier's output layer reads of a text, and its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from llm_distill.errors import ModelError


def output_layer(model: Any) -> torch.nn.Linear:
    """The linear layer that gives the logits: the last that has one output a class.

    Raises:
        ModelError: there is none.
    """
    n = model.config.num_labels
    found = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m.out_features == n]
    if not found:
        raise ModelError(f"a {type(model).__name__} has no linear output layer")
    return found[-1]


def embedded(model: Any, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [rows, classes] and embeddings [rows, d] of a batch that is padded on the right.

    A decoder's are those of the last token, as its logits are.

    Raises:
        ModelError: the logits are not what the output layer makes of them.
    """
    layer = output_layer(model)
    seen: list[torch.Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        logits = model(**batch).logits.float()
    finally:
        hook.remove()
    found = seen[-1]
    if found.dim() == 3:
        last = batch["attention_mask"].sum(1) - 1
        found = found[torch.arange(len(found), device=found.device), last]
    if not torch.allclose(layer(found).float(), logits, atol=1e-3):
        raise ModelError(f"the logits of a {type(model).__name__} are not linear in its embeddings")
    return logits, found.float()
