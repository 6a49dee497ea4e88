"""Log-probabilities from hidden states, without the logits of all positions at once.

The logits of 4096 positions over a vocabulary of 128k fill 2 GB in float32, their gradients as
much again. Here the output layer is computed tile by tile, positions by vocabulary, with a running
logsumexp; the backward pass recomputes each tile. So memory does not grow with the vocabulary,
for one more multiplication by the layer's weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from llm_distill.distillation.lm_head.tile_operations import tile_operations
from llm_distill.distillation.lm_head.tiles import Tile, shaped

MOST_ROWS = {"cpu": 512, "cuda": 4096}
"""Positions in a tile. With fewer, reading the layer's weights takes longer than using them."""

TILE_SIZE = {"cpu": 2**20, "cuda": 2**25}
"""Logits in a tile: on the CPU few enough to stay in its cache, on a GPU enough to keep it busy.

The figures for a GPU were never measured there."""

MOST_RATIO = 80.0
"""log p(boundary) is taken to be at least −80 in its gradient: e^80 is near float32's most."""


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
        return shaped(linear(hidden, self.weight, self.bias), self.scale, self.soft_cap)


@dataclass(frozen=True)
class TopTokens:
    """The k likeliest tokens at each position, the likeliest first: int64, float32 [N, k]."""

    ids: torch.Tensor
    logps: torch.Tensor


def head_logps(
    hidden: torch.Tensor, head: Head, targets: torch.Tensor, boundary_tokens: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Of each position log p(target), log p(boundary): float32 [N] (float64 of float64 weights).

    Differentiable, once, in the hidden states and in the head's weight and bias.

    hidden: [N, H]. targets: int64 [N]; one outside the vocabulary gets NaN.
    boundary_tokens: bool [V] with at least one True; None leaves log p(boundary) out.
    """
    logps, boundary_logps = _HeadLogps.apply(
        hidden, head.weight, head.bias, targets, boundary_tokens, head
    )
    return logps, boundary_logps


def top_tokens(hidden: torch.Tensor, head: Head, k: int, n_tokens: int) -> TopTokens:
    """The k likeliest of the first n_tokens at each position. No gradients.

    Their log-probabilities are among all tokens: what a model gives the padding of its vocabulary
    is in them, and is never one of the k.
    """
    with torch.no_grad():
        kind = _computed_in(head)
        log_z = _filled(hidden, head, -torch.inf)
        best = log_z[:, None].expand(-1, k).clone()
        ids = torch.zeros(best.shape, dtype=torch.int64, device=best.device)
        for rows, columns, product in _tiles(hidden, head, kind):
            logits = shaped(product, head.scale, head.soft_cap)
            log_z[rows] = torch.logaddexp(log_z[rows], logits.logsumexp(1))
            logits = logits[:, : max(0, n_tokens - columns.start)]
            found = logits.topk(min(k, logits.shape[1]), dim=1)
            values = torch.cat([best[rows], found.values], 1)
            places = torch.cat([ids[rows], found.indices + columns.start], 1)
            best[rows], order = values.topk(k, dim=1)
            ids[rows] = places.gather(1, order)
        return TopTokens(ids, best - log_z[:, None])


class _HeadLogps(torch.autograd.Function):  # type: ignore[misc]
    """Of logits z, with B the boundary tokens, and log Z = log Σ_v e^{z_v}:

    log p(t) = z_t − log Z. log p(boundary) = log Σ_{v∈B} e^{z_v} − log Z.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        boundary_tokens: torch.Tensor | None,
        head: Head,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        kind = _computed_in(head)
        log_z = _filled(hidden, head, -torch.inf)
        boundary_log_z = None if boundary_tokens is None else log_z.clone()
        chosen = _filled(hidden, head, torch.nan)
        accumulate, _ = tile_operations(hidden.device, kind)
        for rows, columns, product in _tiles(hidden, head, kind):
            here, boundaries = targets[rows] - columns.start, _part(boundary_tokens, columns)
            tile = Tile(product, here, boundaries, head.scale, head.soft_cap)
            accumulate(tile, log_z[rows], _part(boundary_log_z, rows), chosen[rows])
        ctx.save_for_backward(hidden, weight, bias, targets, boundary_tokens, log_z, boundary_log_z)
        ctx.head, ctx.kind = head, kind
        return chosen - log_z, None if boundary_log_z is None else boundary_log_z - log_z

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(
        ctx: Any, grad_logps: torch.Tensor, grad_boundary_logps: torch.Tensor | None
    ) -> Any:
        """∂L/∂z_v = g (1[v = t] − p_v) + g_B (1[v ∈ B] p_v / p(B) − p_v), g the gradients."""
        hidden, weight, bias, targets, boundary_tokens, log_z, boundary_log_z = ctx.saved_tensors
        head = Head(weight, bias, ctx.head.scale, ctx.head.soft_cap)
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        d_hidden = torch.zeros_like(hidden, dtype=log_z.dtype) if wants_hidden else None
        d_weight = torch.zeros_like(weight, dtype=log_z.dtype) if wants_weight else None
        d_bias = torch.zeros_like(bias, dtype=log_z.dtype) if wants_bias else None
        grad_scale, boundary_grad_scale = -grad_logps, None
        if grad_boundary_logps is not None:
            grad_scale = grad_scale - grad_boundary_logps
            boundary_grad_scale = (
                grad_boundary_logps * (log_z - boundary_log_z).clamp(max=MOST_RATIO).exp()
            )
        _, backward = tile_operations(hidden.device, ctx.kind)
        for rows, columns, product in _tiles(hidden, head, ctx.kind):
            here, boundaries = targets[rows] - columns.start, _part(boundary_tokens, columns)
            tile = Tile(product, here, boundaries, head.scale, head.soft_cap)
            boundary_scale = _part(boundary_grad_scale, rows)
            grad = backward(tile, log_z[rows], grad_logps[rows], grad_scale[rows], boundary_scale)
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


def _tiles(
    hidden: torch.Tensor, head: Head, kind: torch.dtype
) -> Iterator[tuple[slice, slice, torch.Tensor]]:
    """Positions by vocabulary with the products there; all positions of a piece, then the next."""
    device = "cpu" if hidden.device.type == "cpu" else "cuda"
    n, vocabulary = len(hidden), len(head.weight)
    height = max(1, min(n, MOST_ROWS[device]))
    width = min(vocabulary, max(1, TILE_SIZE[device] // height))
    for column in range(0, vocabulary, width):
        columns = slice(column, min(column + width, vocabulary))
        for row in range(0, n, height):
            rows = slice(row, row + height)
            bias = None if head.bias is None else head.bias[columns].to(kind)
            yield rows, columns, linear(hidden[rows].to(kind), head.weight[columns].to(kind), bias)


def _part(values: torch.Tensor | None, places: slice) -> torch.Tensor | None:
    return None if values is None else values[places]


def _add_product(total: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> None:
    """Add a @ b in place; `total` may be of a wider dtype than they are."""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total += a @ b
