"""What is done with one tile of logits, positions by vocabulary, in plain torch.

`head.py` walks over the tiles. `triton_kernels.py` does the same in one kernel each: it reads a
logit once and writes its gradient in its place, where torch makes a pass over the tile for an
operation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Tile:
    """R positions by W tokens.

    products: [R, W], of hidden states and weights, with the bias; belongs to the tile alone, and
        may be overwritten. targets: int64 [R], by column; one below 0 or from W on is not here.
    boundary_tokens: bool [W]. scale, soft_cap: see `head.Head`.
    """

    products: torch.Tensor
    targets: torch.Tensor
    boundary_tokens: torch.Tensor | None
    scale: float
    soft_cap: float | None


def accumulate(
    tile: Tile, log_z: torch.Tensor, boundary_log_z: torch.Tensor | None, chosen: torch.Tensor
) -> None:
    """Take a tile into the running sums, in place.

    log_z, boundary_log_z: [R], log Σ e^z over all tokens and boundary tokens, of the
        tiles so far; -inf at first.
    chosen: [R], the target's logit, where it is in the tile.
    """
    logits = shaped(tile.products, tile.scale, tile.soft_cap)
    log_z.copy_(torch.logaddexp(log_z, logits.logsumexp(1)))
    place, is_here = _within(tile)
    there = logits.gather(1, place[:, None])[:, 0]
    chosen.copy_(torch.where(is_here, there, chosen))
    if boundary_log_z is not None and tile.boundary_tokens is not None:
        logits.masked_fill_(~tile.boundary_tokens, -torch.inf)
        boundary_log_z.copy_(torch.logaddexp(boundary_log_z, logits.logsumexp(1)))


def backward(
    tile: Tile,
    log_z: torch.Tensor,
    grad_logps: torch.Tensor,
    grad_scale: torch.Tensor,
    boundary_grad_scale: torch.Tensor | None,
) -> torch.Tensor:
    """The gradient by product, [R, W]: p_v · scale_v + grad_logps · 1[v = target].

    scale_v is grad_scale, and for boundary tokens grad_scale + boundary_grad_scale.

    log_z: [R], over all tokens. grad_logps, grad_scale, boundary_grad_scale: [R].
    """
    logits = shaped(tile.products, tile.scale, tile.soft_cap)
    grad = (logits - log_z[:, None]).exp_()
    if boundary_grad_scale is None or tile.boundary_tokens is None:
        grad *= grad_scale[:, None]
    else:
        grad *= torch.addcmul(
            grad_scale[:, None], boundary_grad_scale[:, None], tile.boundary_tokens.to(grad)
        )
    place, is_here = _within(tile)
    grad.scatter_add_(1, place[:, None], torch.where(is_here, grad_logps, 0)[:, None])
    if tile.soft_cap is not None:
        grad *= 1 - (logits / tile.soft_cap) ** 2
    if tile.scale != 1:
        grad *= tile.scale
    return grad


def shaped(products: torch.Tensor, scale: float, soft_cap: float | None) -> torch.Tensor:
    """What the architecture does to logits after its output layer, in float32 at least."""
    logits = products.to(torch.promote_types(products.dtype, torch.float32))
    if scale != 1:
        logits = logits * scale
    if soft_cap is not None:
        logits = (logits / soft_cap).tanh() * soft_cap
    return logits


def _within(tile: Tile) -> tuple[torch.Tensor, torch.Tensor]:
    """(the target's column, whether it is in the tile); some column where it is not."""
    width = tile.products.shape[1]
    return tile.targets.clamp(0, width - 1), (tile.targets >= 0) & (tile.targets < width)
