"""Whether a model is causal: nothing it says of a token may depend on those after it."""

from __future__ import annotations

from typing import Any

from llm_distill.errors import ModelError
from llm_distill.models.limits import n_rows


def check_causal(model: Any, name: str, path: str) -> None:
    """Refuse encoders and masked models (BERT), which transformers loads as if they were causal.

    Raises:
        ModelError: it is one.
    """
    if not is_causal(model):
        raise ModelError(
            f"model '{name}' ({path}) is of type {model.config.model_type} and reads the tokens "
            "after a token as well, as encoders and masked models do; take a causal language model"
        )


def is_causal(model: Any) -> bool:
    """Whether what is said of the first tokens does not change with the last one; by trying.

    model: one that gives logits, or hidden states, first.
    """
    import torch

    if getattr(model.config, "rescale_every", 0):  # RWKV: trying would change its weights
        return True
    size = n_rows(model)
    rows = [[token % size for token in (1, 2, 3, last)] for last in (4, 5)]
    with torch.no_grad():
        said = model(input_ids=torch.tensor(rows, device=model.device))[0][:, :-1].float()
    allowed = 1e-5 if model.dtype == torch.float32 else 0.1
    # False if one is NaN, which is told later, and of what was computed.
    return not (said[0] - said[1]).abs().max() > allowed * said.abs().max()
