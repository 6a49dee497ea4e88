"""What is done with a tile of logits on a GPU, in Triton and in torch, beside its floor.

    python benchmarks/output_tiles.py

A tile of 4,096 positions by 8,192 tokens. The floor is what must be moved, at the speed of a copy
that is measured in the same run: `accumulate` reads the tile, `backward` reads and writes it. "B":
with the sums over boundary tokens. "cap": with a soft cap of logits.
"""

from __future__ import annotations

from types import ModuleType

import torch
from gpu_times import copied_a_second, milliseconds
from hardware import describe
from table import show

from llm_distill.distillation.lm_head import tiles, triton_kernels
from llm_distill.distillation.lm_head.tiles import Tile

ROWS, WIDTH = 4096, 8192
SOFT_CAP = 30.0


def made(dtype: torch.dtype, has_boundaries: bool, soft_cap: float | None) -> Tile:
    with torch.device("cuda"):
        products = (2 * torch.randn(ROWS, WIDTH)).to(dtype)
        boundary_tokens = torch.rand(WIDTH) < 0.5 if has_boundaries else None
        return Tile(
            products, torch.randint(-WIDTH, 2 * WIDTH, (ROWS,)), boundary_tokens, 1.0, soft_cap
        )


def costs(way: ModuleType, tile: Tile) -> tuple[float, float]:
    """Milliseconds of `accumulate` and of `backward`."""
    log_z = torch.full((ROWS,), 12.0, device="cuda")
    boundary_log_z, chosen, boundary_grad_scale = log_z.clone(), log_z.clone(), log_z.clone()
    has_boundaries = tile.boundary_tokens is not None
    taken = milliseconds(
        lambda: way.accumulate(tile, log_z, boundary_log_z if has_boundaries else None, chosen)
    )
    log_z.fill_(12.0)
    slopes = chosen, -chosen, boundary_grad_scale if has_boundaries else None
    return taken, milliseconds(lambda: way.backward(tile, log_z, *slopes))


def main() -> None:
    torch.manual_seed(0)
    bandwidth = copied_a_second()
    print(describe("torch", "triton"))
    print(f"a copy: {bandwidth / 1e12:.2f} TB/s; a tile of {ROWS} x {WIDTH}, milliseconds")
    lines = []
    for dtype, name in ((torch.bfloat16, "bfloat16"), (torch.float32, "float32")):
        for has_boundaries, cap in ((False, None), (True, None), (True, SOFT_CAP)):
            floor = ROWS * WIDTH * dtype.itemsize / bandwidth * 1e3
            found = [
                costs(way, made(dtype, has_boundaries, cap)) for way in (triton_kernels, tiles)
            ]
            what = name + ", B" * has_boundaries + ", cap" * bool(cap)
            for index, (done, least) in enumerate((("accumulate", floor), ("backward", 2 * floor))):
                ours, torchs = found[0][index], found[1][index]
                cells = f"{least:.3f}", f"{ours:.3f}", f"{torchs:.3f}"
                ratios = f"{ours / least:.2f}", f"{torchs / ours:.1f}"
                lines.append((f"{done}, {what}", *cells, *ratios))
    show(("", "floor", "Triton", "torch", "Triton / floor", "torch / Triton"), lines)


if __name__ == "__main__":
    main()
