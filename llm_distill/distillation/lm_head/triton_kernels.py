"""`tiles.accumulate` and `backward` in Triton: each reads a tile of logits once.

Experimental: they agree with torch in Triton's interpreter (`make test-triton`) and compile, but
were never timed on a GPU. Only the losses by token use them; those by distribution are plain torch.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs
# Triton reads kernels as source: what annotates their arguments would have to be its own.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl

if TYPE_CHECKING:
    from llm_distill.distillation.lm_head.tiles import Tile

BLOCK = 2048
"""Tokens that a program holds at once."""


def accumulate(
    tile: Tile, log_z: torch.Tensor, boundary_log_z: torch.Tensor | None, chosen: torch.Tensor
) -> None:
    """See `tiles.accumulate`."""
    has_boundaries = boundary_log_z is not None and tile.boundary_tokens is not None
    _accumulate[(len(tile.products),)](
        tile.products,
        tile.targets,
        tile.boundary_tokens if has_boundaries else log_z,
        log_z,
        boundary_log_z if has_boundaries else log_z,
        chosen,
        **_settings(tile, has_boundaries),
    )


def backward(
    tile: Tile,
    log_z: torch.Tensor,
    grad_logps: torch.Tensor,
    grad_scale: torch.Tensor,
    boundary_grad_scale: torch.Tensor | None,
) -> torch.Tensor:
    """See `tiles.backward`; written over the tile's products, in their dtype."""
    rows, width = tile.products.shape
    has_boundaries = boundary_grad_scale is not None and tile.boundary_tokens is not None
    _backward[(rows, triton.cdiv(width, BLOCK))](
        tile.products,
        tile.targets,
        tile.boundary_tokens if has_boundaries else log_z,
        log_z,
        grad_logps.contiguous(),
        grad_scale.contiguous(),
        boundary_grad_scale.contiguous()
        if boundary_grad_scale is not None and has_boundaries
        else log_z,
        **_settings(tile, has_boundaries),
    )
    return tile.products


def _settings(tile: Tile, has_boundaries: bool) -> dict[str, Any]:
    """What both kernels are told of a tile beside its tensors."""
    return {
        "stride": tile.products.stride(0),
        "width": tile.products.shape[1],
        "scale": tile.scale,
        "cap": tile.soft_cap or 1.0,
        "has_boundaries": has_boundaries,
        "has_cap": tile.soft_cap is not None,
        "block": BLOCK,
    }


@triton.jit  # type: ignore[untyped-decorator]
def _shaped(products, inside, scale, cap, has_cap: tl.constexpr):
    """Logits in float32; -inf outside of the tile."""
    logits = products.to(tl.float32) * scale
    if has_cap:
        # tanh(x) = 1 - 2 / (e^2x + 1), which is right at both ends
        logits = cap * (1 - 2 / (tl.exp(2 * logits / cap) + 1))
    return tl.where(inside, logits, float("-inf"))


@triton.jit
def _joined(top, total, logits):
    """A running maximum, and Σ e^(logit - maximum), with more logits; all may be -inf."""
    new = tl.maximum(top, tl.max(logits, axis=0))
    shift = tl.where(new == float("-inf"), 0.0, new)
    total = total * tl.exp(top - shift) + tl.sum(tl.exp(logits - shift), axis=0)
    return new, total


@triton.jit  # type: ignore[untyped-decorator]
def _accumulate(
    products, targets, boundary_tokens, log_z, boundary_log_z, chosen,
    stride, width, scale, cap,
    has_boundaries: tl.constexpr, has_cap: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """A program is a row. What the tiles before gave is where its running sum starts."""
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(targets + row)
    z_top = tl.load(log_z + row).to(tl.float32)
    z_total = 1.0
    boundary_top = z_top
    boundary_total = 1.0
    if has_boundaries:
        boundary_top = tl.load(boundary_log_z + row).to(tl.float32)
    for start in range(0, width, block):
        columns = start + tl.arange(0, block)
        inside = columns < width
        given = tl.load(products + row * stride + columns, mask=inside, other=0.0)
        logits = _shaped(given, inside, scale, cap, has_cap)
        z_top, z_total = _joined(z_top, z_total, logits)
        if has_boundaries:
            is_open = tl.load(boundary_tokens + columns, mask=inside, other=0) != 0
            boundary_top, boundary_total = _joined(
                boundary_top, boundary_total, tl.where(is_open, logits, float("-inf"))
            )
    tl.store(log_z + row, z_top + tl.log(z_total))
    if has_boundaries:
        tl.store(boundary_log_z + row, boundary_top + tl.log(boundary_total))
    if (target >= 0) & (target < width):
        given = tl.load(products + row * stride + target)
        tl.store(chosen + row, _shaped(given, target >= 0, scale, cap, has_cap))


@triton.jit  # type: ignore[untyped-decorator]
def _backward(
    products, targets, boundary_tokens, log_z, grad_logps, grad_scale, boundary_grad_scale,
    stride, width, scale, cap,
    has_boundaries: tl.constexpr, has_cap: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """A program is a row's block tokens."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * block + tl.arange(0, block)
    inside = columns < width
    places = products + row * stride + columns
    logits = _shaped(tl.load(places, mask=inside, other=0.0), inside, scale, cap, has_cap)
    factor = tl.load(grad_scale + row)
    if has_boundaries:
        is_open = tl.load(boundary_tokens + columns, mask=inside, other=0) != 0
        factor = factor + tl.where(is_open, tl.load(boundary_grad_scale + row), 0.0)
    gradient = tl.exp(logits - tl.load(log_z + row)) * factor
    is_target = columns == tl.load(targets + row)
    gradient = gradient + tl.where(is_target, tl.load(grad_logps + row), 0.0)
    if has_cap:
        gradient = gradient * (1 - (logits / cap) * (logits / cap))
    gradient = gradient * scale
    tl.store(places, gradient.to(products.dtype.element_ty), mask=inside)
