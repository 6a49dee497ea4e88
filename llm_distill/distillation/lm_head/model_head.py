"""The two parts of a causal model: its backbone, and the output layer that `head.Head` computes."""

from __future__ import annotations

from typing import Any

import torch

from llm_distill.distillation.lm_head.head import Head
from llm_distill.errors import ModelError


def backbone_of(model: Any) -> Any:
    """The module of a causal model that gives `last_hidden_state`; adapters in it stay active."""
    return unwrapped(model).base_model


def head_of(model: Any) -> Head:
    """The output layer of a causal model, with or without PEFT adapters on its other layers.

    Raises:
        ModelError: an adapter is on the layer, or the layer and the backbone do not give the
            model's own logits: the architecture does something there that is not known here.
    """
    inner = unwrapped(model)
    layer = inner.get_output_embeddings()
    weight = getattr(layer, "weight", None)
    name = type(inner).__name__
    # PEFT's names. A layer that it trains whole, as a copy, has the copy's weight for its own.
    is_copied = hasattr(layer, "modules_to_save")
    adapted = hasattr(layer, "base_layer") or (hasattr(layer, "original_module") and not is_copied)
    if adapted or weight is None or weight.ndim != 2 or not weight.is_floating_point():
        why = "is under an adapter" if adapted else "does not have a plain matrix of weights"
        raise ModelError(
            f"the output layer of {name} {why}, so likelihoods cannot be computed from hidden "
            "states; leave lm_head out of peft.target_modules, and do not quantise it"
        )
    if inner.base_model is inner:
        raise ModelError(
            f"{name} does not say which of its parts is the backbone, so its hidden states cannot "
            "be read; its architecture is not supported here"
        )
    config = inner.config.get_text_config(decoder=True)
    bias = getattr(layer, "bias", None)
    caps = (getattr(config, name, None) for name in ("final_logit_softcapping", "logits_soft_cap"))
    cap = next((cap for cap in caps if cap), None)  # the second is RecurrentGemma's name
    hidden, expected = _a_few(inner, layer)
    allowed = 2e-2 if weight.dtype in (torch.bfloat16, torch.float16) else 1e-4
    scales = _scales(config)
    for scale in scales:
        head = Head(weight, bias, scale, cap)
        with torch.no_grad():
            found = head.logits(hidden)
        if found.shape == expected.shape:
            difference = (found - expected).abs().max() / expected.abs().max()
            if difference <= allowed:
                return head
    raise ModelError(
        f"the logits of {name} are not those of its output layer over its hidden states (with "
        f"logit scale {', '.join(f'{scale:g}' for scale in scales)}, soft cap {cap}); "
        "its architecture is not supported here"
    )


def unwrapped(model: Any) -> Any:
    """Without PEFT's wrapper; the layers that it has put into the model stay there."""
    # PEFT marks the inner model with `peft_config` as well.
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _scales(config: Any) -> list[float]:
    """What logits may be multiplied by: Cohere's, Falcon-H1's, or Granite's, which divides.

    HyperCLOVA X has Granite's name for what it multiplies by. Experimental: only small random
    models of these kinds were tried, none with its published weights.
    """
    for name in ("logit_scale", "lm_head_multiplier"):
        if getattr(config, name, None):
            return [float(getattr(config, name))]
    divisor = float(getattr(config, "logits_scaling", None) or 1)
    return [1 / divisor, divisor] if divisor != 1 else [1.0]


def _a_few(model: Any, layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states of the backbone, and the model's own logits, of the same forward pass."""
    states: list[torch.Tensor] = []
    hook = model.base_model.register_forward_hook(
        lambda module, given, output: states.append(output.last_hidden_state)
    )
    ids = torch.arange(min(8, len(layer.weight)), device=layer.weight.device)[None]
    try:
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits
            if not states:  # OPT calls a part of its backbone only
                model.base_model(input_ids=ids, use_cache=False)
    finally:
        hook.remove()
    return states[-1][0], logits[0]
