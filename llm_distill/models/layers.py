"""The layers of a transformer."""

from __future__ import annotations

from typing import Any

from llm_distill.errors import ModelError


def layer_stack(model: Any, name: str) -> tuple[str, Any]:
    """Where a model has its layers, and the list of them, from the input on.

    It is the first list of as many modules as the config says; a layer's own lists, such as of
    experts, come later, and one of them may be as long.

    Args:
        model: of transformers.
        name: the model's, for messages.

    Raises:
        ModelError: there is none.
    """
    import torch

    n_layers = model.config.get_text_config(decoder=True).num_hidden_layers
    for place, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == n_layers:
            return str(place), module
    raise ModelError(
        f"model '{name}' ({type(model).__name__}) has no list of {n_layers} layers; its "
        "architecture is not supported here"
    )
