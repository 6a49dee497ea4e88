"""Whether the tiles of the output layer are for Triton or for plain torch: both give the same."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache

import torch

from llm_distill.distillation.lm_head import tiles
from llm_distill.distillation.lm_head.tiles import Tile

log = logging.getLogger("llm_distill")

Accumulate = Callable[[Tile, torch.Tensor, torch.Tensor | None, torch.Tensor], None]
Backward = Callable[
    [Tile, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor
]


def tile_operations(device: torch.device, dtype: torch.dtype) -> tuple[Accumulate, Backward]:
    """`accumulate` and `backward` there: Triton's on a GPU that it works on, else torch's."""
    if device.type == "cuda" and dtype != torch.float64 and _triton_works(device):
        from llm_distill.distillation.lm_head import triton_kernels

        return triton_kernels.accumulate, triton_kernels.backward
    return tiles.accumulate, tiles.backward


@lru_cache
def _triton_works(device: torch.device) -> bool:
    """Whether kernels can be compiled and run: that needs a C compiler and a GPU of its kind."""
    try:
        from llm_distill.distillation.lm_head import triton_kernels

        row = torch.zeros(1, device=device)
        boundary_tokens = torch.ones(1, dtype=torch.bool, device=device)
        tile = Tile(row[None].clone(), row.long(), boundary_tokens, 1.0, None)
        triton_kernels.accumulate(tile, row.clone(), row.clone(), row.clone())
        triton_kernels.backward(tile, row, row, row, row)
    except Exception as error:  # whatever a compiler says
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        log.warning("no Triton on %s (%s): the output layer is computed in torch", device, first)
        return False
    return True
