"""Whether a model is causal: nothing it says of a token may depend on those after it."""

from __future__ import annotations

from typing import Any

from llm_distill.errors import ModelError
from llm_distill.models.limits import n_rows


def check_causal(model: Any, name: str, path: str) -> None:
    """Refuse encoders and masked models (BERT), which transformers loads as if they were causal.

    Found by trying: what is said of the first tokens must not change with the last one.

    Raises:
        ModelError: it does.
    """
    import torch

    if getattr(model.config, "rescale_every", 0):  # RWKV: trying would change its weights
        return
    size = n_rows(model)
    rows = [[token % size for token in (1, 2, 3, last)] for last in (4, 5)]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor(rows, device=model.device)).logits[:, :-1].float()
    allowed = 1e-5 if model.dtype == torch.float32 else 0.1
    if (logits[0] - logits[1]).abs().max() > allowed * logits.abs().max():  # false if one is NaN
        raise ModelError(
            f"model '{name}' ({path}) is of type {model.config.model_type} and reads the tokens "
            "after a token as well, as encoders and masked models do; take a causal language model"
        )
