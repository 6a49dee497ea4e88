"""The query, key and value projections of one layer, found by their names, and what they give."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from llm_distill.errors import ModelError
from llm_distill.methods.relations import relation_logps, split_heads
from llm_distill.models.layers import layer_stack

if TYPE_CHECKING:
    from llm_distill.distillation.relations.losses import Part

PARTS: tuple[Part, Part, Part] = ("query", "key", "value")
NAMES = (("query", "key", "value"), ("q_proj", "k_proj", "v_proj"), ("q_lin", "k_lin", "v_lin"))
"""BERT's and its kin, those of most decoders, DistilBERT's."""

States = dict["Part", torch.Tensor]
"""What the projections give of each token, [B, T, W], before positions are turned in (RoPE)."""


@dataclass(frozen=True)
class Projections:
    """Of one layer of a model.

    name: the model's, for messages. layer: counted from the input, from 1. n_heads, width: by part;
    with grouped queries there are fewer of keys and values.
    """

    name: str
    layer: int
    modules: dict[Part, Any]
    n_heads: dict[Part, int]
    width: dict[Part, int]

    @contextmanager
    def listening(self) -> Iterator[States]:
        """What the projections give in a forward pass within; it is there afterwards."""
        found: States = {}

        def keep(part: Part) -> Any:
            def hook(module: Any, given: Any, output: torch.Tensor) -> None:
                found[part] = output

            return hook

        hooks = [m.register_forward_hook(keep(part)) for part, m in self.modules.items()]
        try:
            yield found
        finally:
            for hook in hooks:
                hook.remove()


def projections(model: Any, layer: int, name: str, setting: str) -> Projections:
    """Those of a layer.

    Args:
        model: a backbone of transformers.
        layer: from 1 at the input; negative from the end, −1 is the last.
        name: of the model.
        setting: that says which layer, for messages.

    Raises:
        ModelError: there is no such layer, or its projections are not found.
    """
    config = model.config.get_text_config(decoder=True)
    _, stack = layer_stack(model, name)
    number = layer if layer > 0 else len(stack) + 1 + layer
    if not 1 <= number <= len(stack):
        raise ModelError(
            f"{setting}: {layer}, but model '{name}' has {len(stack)} layers; allowed: 1 to "
            f"{len(stack)}, counted from the input, or -1 (the last) to -{len(stack)}"
        )
    modules = _named(stack[number - 1], name)
    width = {part: int(module.out_features) for part, module in modules.items()}
    n_queries = int(config.num_attention_heads)
    head = width["query"] // n_queries
    n_heads = {part: columns // head for part, columns in width.items()}
    return Projections(name, number, modules, n_heads, width)


def _named(layer: Any, name: str) -> dict[Part, Any]:
    """The one set of three linear layers with names that are known."""
    inside = list(layer.named_modules())
    found = []
    for names in NAMES:
        by_name = [
            [m for place, m in inside if place.rpartition(".")[2] == own and _is_linear(m)]
            for own in names
        ]
        if all(len(modules) == 1 for modules in by_name):
            found.append({part: of[0] for part, of in zip(PARTS, by_name, strict=True)})
    if len(found) != 1:
        looked = "; ".join(", ".join(names) for names in NAMES)
        there = sorted({place.rpartition(".")[2] for place, m in inside if _is_linear(m)})
        raise ModelError(
            f"the query, key and value projections of model '{name}' ({type(layer).__name__}) are "
            f"not found; looked for linear layers with the names {looked}, once each in a layer; "
            f"its linear layers are {', '.join(there) or 'none'}. Projections in one matrix, and "
            "layers with cross-attention, are not supported"
        )
    return found[0]


def _is_linear(module: Any) -> bool:
    return isinstance(module, torch.nn.Linear)


def check_attends_so(model: Any, of: Projections) -> None:
    """That softmax(QKᵀ/√d) of the projections are the rows by which the layer attends; by trying.

    They are not where positions are turned into Q and K (RoPE), where these are normed, or where
    something is added to the scores.

    Raises:
        ModelError: they are not.
    """
    before = model.config._attn_implementation
    ids = torch.arange(1, 7, device=model.device)[None]
    model.set_attn_implementation("eager")  # others give no weights
    try:
        with torch.no_grad(), of.listening() as found:
            attentions = model(input_ids=ids, output_attentions=True).attentions
    finally:
        model.set_attn_implementation(before)
    n_heads = of.n_heads["query"]
    pair = attention_pair(found, n_heads, of.n_heads["key"])
    wanted = attentions[of.layer - 1].float()
    seen = wanted > 0  # what a causal model masks is 0
    if (relation_logps(pair, seen).exp() * seen - wanted).abs().max() > 1e-4:
        raise ModelError(
            f"losses.attention_relation reads softmax(QKᵀ/√d) off the projections of '{of.name}', "
            f"and layer {of.layer} attends in another way (rotary positions, norms of Q and K, a "
            "bias or a cap); take query_relation and key_relation"
        )


def attention_pair(
    states: States, n_heads: int, n_key_heads: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and keys, [B, n_heads, T, d]; a key head serves as many query heads as share it."""
    keys = split_heads(states["key"], n_key_heads)
    queries = split_heads(states["query"], n_heads)
    return queries, keys.repeat_interleave(n_heads // n_key_heads, dim=1)
