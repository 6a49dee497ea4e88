"""Models without what reads their last hidden states, and smaller ones made of them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from llm_distill.errors import ModelError, first_line
from llm_distill.models.layers import layer_stack
from llm_distill.models.sources import load_model

if TYPE_CHECKING:
    from llm_distill.models.sources import ModelSource


def writes(source: ModelSource) -> bool:
    """Whether it is saved as a causal language model, with its output layer."""
    from transformers import AutoConfig

    try:
        config: Any = AutoConfig.from_pretrained(
            source.path, revision=source.revision, trust_remote_code=False
        )
    except Exception as error:  # files of others: whatever the library makes of them
        raise ModelError(f"model '{source.name}' at {source.path}: {first_line(error)}") from error
    named = getattr(config, "architectures", None) or ()
    return any(str(name).endswith(("ForCausalLM", "LMHeadModel")) for name in named)


def load_whole(source: ModelSource) -> Any:
    """In float32: a decoder with its output layer, anything else without a head of any kind.

    Raises:
        ModelError: see `load_model`.
    """
    return load_model(replace(source, dtype="float32"), with_head=writes(source))


def chosen_layers(model: Any, layers: Sequence[int], name: str) -> Any:
    """A model of some layers of another, in this order, and all else that it has.

    As DistilBERT's student begins with every second layer of its teacher (1910.01108).

    layers: counted from the input, from 1.

    Raises:
        ModelError: it does not have them.
    """
    config = model.config.get_text_config(decoder=True)
    n_layers = config.num_hidden_layers
    missing = [layer for layer in layers if layer > n_layers]
    if missing:
        raise ModelError(
            f"layers: {missing[0]}, but model '{name}' has {n_layers}; allowed: 1 to {n_layers}"
        )
    place, _ = layer_stack(model, name)
    made = type(model)(_shorter(model.config, [layer - 1 for layer in layers]))
    new = {f"{place}.{at}.": f"{place}.{layer - 1}." for at, layer in enumerate(layers)}
    weights = model.state_dict()
    made.load_state_dict({own: weights[_renamed(own, new)] for own in made.state_dict()})
    return made.eval()


def drawn_anew(model: Any, changes: Mapping[str, Any], name: str) -> Any:
    """A model of this kind with random weights, by torch's seed.

    changes: of the config, such as {"hidden_size": 384}.

    Raises:
        ModelError: the config has no such field, or cannot be so.
    """
    config = copy.deepcopy(model.config)
    own = config.get_text_config(decoder=True)
    for key, value in changes.items():
        if not hasattr(own, key):
            close = get_close_matches(key, own.to_dict(), n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ModelError(
                f"config.{key}: the config of model '{name}' ({own.model_type}) has no such field"
                f"{hint}"
            )
        setattr(own, key, value)
    n_layers = model.config.get_text_config(decoder=True).num_hidden_layers
    _cut_lists(own, range(min(own.num_hidden_layers, n_layers)), n_layers)
    try:
        made = type(model)(config)
    except Exception as error:  # whatever the library makes of it
        raise ModelError(
            f"config: no {type(model).__name__} can be made of it: {first_line(error)}"
        ) from error
    return made.eval()


def _shorter(config: Any, kept: Sequence[int]) -> Any:
    made = copy.deepcopy(config)
    own = made.get_text_config(decoder=True)
    _cut_lists(own, kept, own.num_hidden_layers)
    own.num_hidden_layers = len(kept)
    return made


def _cut_lists(config: Any, kept: Sequence[int], n_layers: int) -> None:
    """What a config says of each layer, such as `layer_types`."""
    for key, value in vars(config).items():
        if "layer" in key and isinstance(value, list) and len(value) == n_layers:
            setattr(config, key, [value[index] for index in kept])


def _renamed(name: str, new: Mapping[str, str]) -> str:
    for begin, before in new.items():
        if name.startswith(begin):
            return f"{before}{name.removeprefix(begin)}"
    return name
