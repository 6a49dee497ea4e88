"""Log-probabilities from hidden states, without the logits of all positions at once.

The logits of 4096 positions over a vocabulary of 128k fill 2 GB in float32, their gradients as
much again. Here the output layer is computed tile by tile, positions by vocabulary, with a running
logsumexp; the backward pass computes each tile anew. So memory does not grow with the vocabulary,
for one more multiplication by the layer's weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from llm_distill.errors import ModelError

MOST_ROWS = {"cpu": 512, "cuda": 4096}
"""Positions in a tile. With fewer, reading the layer's weights takes longer than using them."""

TILE_SIZE = {"cpu": 2**20, "cuda": 2**25}
"""Logits in a tile: on the CPU few enough to stay in its cache, on a GPU enough to keep it busy."""

MOST_RATIO = 80.0
"""log p(B) is taken to be at least −80 in its gradient: e^80 is near the most float32 can hold."""


@dataclass(frozen=True)
class Head:
    """A model's output layer: logits = cap(scale · (hidden @ weightᵀ + bias)).

    weight: [V, H]. bias: [V]. scale: Cohere's and Granite's. soft_cap: Gemma's, c · tanh(x / c).
    """

    weight: torch.Tensor
    bias: torch.Tensor | None = None
    scale: float = 1.0
    soft_cap: float | None = None

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Of all positions at once, [..., V], in float32 at least."""
        return _shaped(linear(hidden, self.weight, self.bias), self)


@dataclass(frozen=True)
class TopTokens:
    """The k likeliest tokens at each position, the likeliest first: int64, float32 [N, k]."""

    ids: torch.Tensor
    logps: torch.Tensor


def head_logps(
    hidden: torch.Tensor, head: Head, targets: torch.Tensor, opens: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Of each position, log p(target) and log p(B), float32 [N] (float64 of float64 weights).

    Differentiable, once, in the hidden states and in the head's weight and bias.

    hidden: [N, H]. targets: int64 [N]; one outside the vocabulary gets NaN.
    opens: the set B, bool [V] with at least one True; None leaves log p(B) out.
    """
    logps, log_pbs = _HeadLogps.apply(hidden, head.weight, head.bias, targets, opens, head)
    return logps, log_pbs


def top_tokens(hidden: torch.Tensor, head: Head, k: int) -> TopTokens:
    """The k likeliest tokens at each position and their log-probabilities. No gradients."""
    with torch.no_grad():
        kind = _computed_in(head)
        log_z = _filled(hidden, head, -torch.inf)
        best = log_z[:, None].expand(-1, k).clone()
        ids = torch.zeros(best.shape, dtype=torch.int64, device=best.device)
        for rows, columns in _tiles(hidden, head):
            logits = _tile(hidden, head, rows, columns, kind)
            log_z[rows] = torch.logaddexp(log_z[rows], logits.logsumexp(1))
            found = logits.topk(min(k, logits.shape[1]), dim=1)
            values = torch.cat([best[rows], found.values], 1)
            places = torch.cat([ids[rows], found.indices + columns.start], 1)
            best[rows], order = values.topk(k, dim=1)
            ids[rows] = places.gather(1, order)
        return TopTokens(ids, best - log_z[:, None])


class _HeadLogps(torch.autograd.Function):  # type: ignore[misc]
    """With z the logits: log p(t) = z_t − log Σ_v e^{z_v}, log p(B) = log Σ_{v∈B} e^{z_v} − …"""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        opens: torch.Tensor | None,
        head: Head,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        kind = _computed_in(head)
        log_z = _filled(hidden, head, -torch.inf)
        log_b = None if opens is None else log_z.clone()
        chosen = _filled(hidden, head, torch.nan)
        for rows, columns in _tiles(hidden, head):
            logits = _tile(hidden, head, rows, columns, kind)
            log_z[rows] = torch.logaddexp(log_z[rows], logits.logsumexp(1))
            place, is_here = _within(targets[rows], columns)
            there = logits.gather(1, place[:, None])[:, 0]
            chosen[rows] = torch.where(is_here, there, chosen[rows])
            if log_b is not None and opens is not None:
                logits.masked_fill_(~opens[columns], -torch.inf)
                log_b[rows] = torch.logaddexp(log_b[rows], logits.logsumexp(1))
        ctx.save_for_backward(hidden, weight, bias, targets, opens, log_z, log_b)
        ctx.head, ctx.kind = head, kind
        return chosen - log_z, None if log_b is None else log_b - log_z

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, for_logps: torch.Tensor, for_log_pbs: torch.Tensor | None) -> Any:
        """∂L/∂z_v = g (1[v = t] − p_v) + g_B (1[v ∈ B] p_v / p(B) − p_v), g the gradients given."""
        hidden, weight, bias, targets, opens, log_z, log_b = ctx.saved_tensors
        head = Head(weight, bias, ctx.head.scale, ctx.head.soft_cap)
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        d_hidden = torch.zeros_like(hidden, dtype=log_z.dtype) if wants_hidden else None
        d_weight = torch.zeros_like(weight, dtype=log_z.dtype) if wants_weight else None
        d_bias = torch.zeros_like(bias, dtype=log_z.dtype) if wants_bias else None
        spread = -for_logps if for_log_pbs is None else -for_logps - for_log_pbs
        if for_log_pbs is not None:
            drawn = for_log_pbs * (log_z - log_b).clamp(max=MOST_RATIO).exp()
        for rows, columns in _tiles(hidden, head):
            logits = _tile(hidden, head, rows, columns, ctx.kind)
            grad = (logits - log_z[rows, None]).exp_()
            if for_log_pbs is None:
                grad *= spread[rows, None]
            else:
                grad *= torch.addcmul(
                    spread[rows, None], drawn[rows, None], opens[columns].to(grad)
                )
            place, is_here = _within(targets[rows], columns)
            grad.scatter_add_(1, place[:, None], torch.where(is_here, for_logps[rows], 0)[:, None])
            if head.soft_cap is not None:
                grad *= 1 - (logits / head.soft_cap) ** 2
            if head.scale != 1:
                grad *= head.scale
            if d_bias is not None:
                d_bias[columns] += grad.sum(0)
            grad = grad.to(ctx.kind)
            if d_hidden is not None:
                _add_product(d_hidden[rows], grad, weight[columns].to(ctx.kind))
            if d_weight is not None:
                _add_product(d_weight[columns], grad.T, hidden[rows].to(ctx.kind))
        return (
            None if d_hidden is None else d_hidden.to(hidden.dtype),
            None if d_weight is None else d_weight.to(weight.dtype),
            None if d_bias is None else d_bias.to(bias.dtype),
            None,
            None,
            None,
        )


def _computed_in(head: Head) -> torch.dtype:
    """What the layer multiplies in: its own dtype, or autocast's."""
    device = head.weight.device.type
    if torch.is_autocast_enabled(device) and head.weight.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return head.weight.dtype


def _filled(hidden: torch.Tensor, head: Head, value: float) -> torch.Tensor:
    dtype = torch.promote_types(head.weight.dtype, torch.float32)
    return torch.full((len(hidden),), value, dtype=dtype, device=hidden.device)


def _tiles(hidden: torch.Tensor, head: Head) -> Iterator[tuple[slice, slice]]:
    """Positions by vocabulary, all positions of one piece of the vocabulary before the next."""
    device = "cpu" if hidden.device.type == "cpu" else "cuda"
    n, vocabulary = len(hidden), len(head.weight)
    height = max(1, min(n, MOST_ROWS[device]))
    width = min(vocabulary, max(1, TILE_SIZE[device] // height))
    for column in range(0, vocabulary, width):
        for row in range(0, n, height):
            yield slice(row, row + height), slice(column, min(column + width, vocabulary))


def _tile(
    hidden: torch.Tensor, head: Head, rows: slice, columns: slice, kind: torch.dtype
) -> torch.Tensor:
    bias = None if head.bias is None else head.bias[columns].to(kind)
    return _shaped(linear(hidden[rows].to(kind), head.weight[columns].to(kind), bias), head)


def _shaped(logits: torch.Tensor, head: Head) -> torch.Tensor:
    """What the architecture does to logits behind its output layer, in float32 at least."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if head.scale != 1:
        logits = logits * head.scale
    if head.soft_cap is not None:
        logits = (logits / head.soft_cap).tanh() * head.soft_cap
    return logits


def _within(targets: torch.Tensor, columns: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """(place in the columns, whether it is in them); some place in them where it is not."""
    place = targets - columns.start
    width = columns.stop - columns.start
    return place.clamp(0, width - 1), (place >= 0) & (place < width)


def _add_product(total: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> None:
    """Add a @ b in place; `total` may be of a wider dtype than they are."""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total += a @ b


def backbone_of(model: Any) -> Any:
    """The module of a causal model that gives `last_hidden_state`; adapters in it stay active."""
    return _unwrapped(model).base_model


def head_of(model: Any) -> Head:
    """The output layer of a causal model, with or without PEFT adapters on its other layers.

    Raises:
        ModelError: an adapter is on the layer, or the layer and the backbone do not give the
            model's own logits: the architecture does something there that is not known here.
    """
    inner = _unwrapped(model)
    layer = inner.get_output_embeddings()
    weight = getattr(layer, "weight", None)
    name = type(inner).__name__
    adapted = hasattr(layer, "base_layer") or hasattr(layer, "original_module")  # PEFT's names
    if adapted or weight is None or weight.ndim != 2 or not weight.is_floating_point():
        why = "is under an adapter" if adapted else "has no plain matrix of weights"
        raise ModelError(
            f"the output layer of {name} {why}, so likelihoods cannot be computed from hidden "
            "states; leave lm_head out of peft.target_modules, and do not quantise it"
        )
    config = inner.config.get_text_config(decoder=True)
    bias, cap = getattr(layer, "bias", None), getattr(config, "final_logit_softcapping", None)
    hidden, expected = _a_few(inner, layer)
    allowed = 2e-2 if weight.dtype in (torch.bfloat16, torch.float16) else 1e-4
    for scale in _scales(config):
        head = Head(weight, bias, scale, cap)
        with torch.no_grad():
            found = head.logits(hidden)
        if found.shape == expected.shape and _relative(found, expected) <= allowed:
            return head
    raise ModelError(
        f"the logits of {name} are not those of its output layer over its hidden states (with "
        f"logit scale {', '.join(f'{scale:g}' for scale in _scales(config))}, soft cap {cap}); "
        "its architecture is not supported here"
    )


def _unwrapped(model: Any) -> Any:
    """Without PEFT's wrapper; the layers that it has put into the model stay there."""
    # PEFT marks the inner model with `peft_config` as well.
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _scales(config: Any) -> list[float]:
    """What logits may be multiplied with: Cohere's, Falcon-H1's, or Granite's, which divides.

    HyperCLOVA X has Granite's name for what it multiplies with.
    """
    for name in ("logit_scale", "lm_head_multiplier"):
        if getattr(config, name, None):
            return [float(getattr(config, name))]
    divisor = float(getattr(config, "logits_scaling", None) or 1)
    return [1 / divisor, divisor] if divisor != 1 else [1.0]


def _relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference, as a share of the largest value."""
    return float((found - expected).abs().max() / expected.abs().max())


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
    finally:
        hook.remove()
    return states[-1][0], logits[0]
