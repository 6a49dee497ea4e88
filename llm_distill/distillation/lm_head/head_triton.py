"""`head_tiles.take` and `slope` in Triton: each reads a tile of logits once."""

# mypy: allow-untyped-defs, allow-incomplete-defs
# Triton reads kernels as source: what annotates their arguments would have to be its own.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl

if TYPE_CHECKING:
    from llm_distill.distillation.lm_head.head_tiles import Tile

BLOCK = 2048
"""Tokens that a program holds at once."""


def take(tile: Tile, log_z: torch.Tensor, log_b: torch.Tensor | None, chosen: torch.Tensor) -> None:
    """See `head_tiles.take`."""
    has_set = log_b is not None and tile.opens is not None
    _take[(len(tile.products),)](
        tile.products,
        tile.targets,
        tile.opens if has_set else log_z,
        log_z,
        log_b if has_set else log_z,
        chosen,
        **_settings(tile, has_set),
    )


def slope(
    tile: Tile,
    log_z: torch.Tensor,
    for_logps: torch.Tensor,
    spread: torch.Tensor,
    drawn: torch.Tensor | None,
) -> torch.Tensor:
    """See `head_tiles.slope`; written over the tile's products, in their dtype."""
    rows, width = tile.products.shape
    has_set = drawn is not None and tile.opens is not None
    _slope[(rows, triton.cdiv(width, BLOCK))](
        tile.products,
        tile.targets,
        tile.opens if has_set else log_z,
        log_z,
        for_logps.contiguous(),
        spread.contiguous(),
        drawn.contiguous() if drawn is not None and has_set else log_z,
        **_settings(tile, has_set),
    )
    return tile.products


def _settings(tile: Tile, has_set: bool) -> dict[str, Any]:
    """What both kernels are told of a tile beside its tensors."""
    return {
        "stride": tile.products.stride(0),
        "width": tile.products.shape[1],
        "scale": tile.scale,
        "cap": tile.soft_cap or 1.0,
        "has_set": has_set,
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
def _take(
    products, targets, opens, log_z, log_b, chosen,
    stride, width, scale, cap,
    has_set: tl.constexpr, has_cap: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """A program is a row. What the tiles before gave is where its running sum starts."""
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(targets + row)
    z_top = tl.load(log_z + row).to(tl.float32)
    z_total = 1.0
    b_top = z_top
    b_total = 1.0
    if has_set:
        b_top = tl.load(log_b + row).to(tl.float32)
    for start in range(0, width, block):
        columns = start + tl.arange(0, block)
        inside = columns < width
        given = tl.load(products + row * stride + columns, mask=inside, other=0.0)
        logits = _shaped(given, inside, scale, cap, has_cap)
        z_top, z_total = _joined(z_top, z_total, logits)
        if has_set:
            is_open = tl.load(opens + columns, mask=inside, other=0) != 0
            b_top, b_total = _joined(b_top, b_total, tl.where(is_open, logits, float("-inf")))
    tl.store(log_z + row, z_top + tl.log(z_total))
    if has_set:
        tl.store(log_b + row, b_top + tl.log(b_total))
    if (target >= 0) & (target < width):
        given = tl.load(products + row * stride + target)
        tl.store(chosen + row, _shaped(given, target >= 0, scale, cap, has_cap))


@triton.jit  # type: ignore[untyped-decorator]
def _slope(
    products, targets, opens, log_z, for_logps, spread, drawn,
    stride, width, scale, cap,
    has_set: tl.constexpr, has_cap: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """A program is a row's block tokens."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * block + tl.arange(0, block)
    inside = columns < width
    places = products + row * stride + columns
    logits = _shaped(tl.load(places, mask=inside, other=0.0), inside, scale, cap, has_cap)
    factor = tl.load(spread + row)
    if has_set:
        is_open = tl.load(opens + columns, mask=inside, other=0) != 0
        factor = factor + tl.where(is_open, tl.load(drawn + row), 0.0)
    gradient = tl.exp(logits - tl.load(log_z + row)) * factor
    is_target = columns == tl.load(targets + row)
    gradient = gradient + tl.where(is_target, tl.load(for_logps + row), 0.0)
    if has_cap:
        gradient = gradient * (1 - (logits / cap) * (logits / cap))
    gradient = gradient * scale
    tl.store(places, gradient.to(products.dtype.element_ty), mask=inside)
