"""Whether the tiles of the output layer are for Triton or for plain torch: both give the same."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache

import torch

from llm_distill.distillation.lm_head import head_tiles
from llm_distill.distillation.lm_head.head_tiles import Tile

log = logging.getLogger("llm_distill")

Take = Callable[[Tile, torch.Tensor, torch.Tensor | None, torch.Tensor], None]
Slope = Callable[
    [Tile, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor
]


def tile_operations(device: torch.device, dtype: torch.dtype) -> tuple[Take, Slope]:
    """`take` and `slope` for tiles there: Triton's on a GPU that it works on, else torch's."""
    if device.type == "cuda" and dtype != torch.float64 and _triton_works(device):
        from llm_distill.distillation.lm_head import head_triton

        return head_triton.take, head_triton.slope
    return head_tiles.take, head_tiles.slope


@lru_cache
def _triton_works(device: torch.device) -> bool:
    """Whether kernels can be compiled and run: that needs a C compiler and a GPU of its kind."""
    try:
        from llm_distill.distillation.lm_head import head_triton

        row = torch.zeros(1, device=device)
        opens = torch.ones(1, dtype=torch.bool, device=device)
        tile = Tile(row[None].clone(), row.long(), opens, 1.0, None)
        head_triton.take(tile, row.clone(), row.clone(), row.clone())
        head_triton.slope(tile, row, row, row, row)
    except Exception as error:  # whatever a compiler says
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        log.warning("no Triton on %s (%s): the output layer is computed in torch", device, first)
        return False
    return True
