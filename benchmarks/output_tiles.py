"""What is done with a tile of logits on a GPU, in Triton and in torch, beside its floor.

    python benchmarks/output_tiles.py

A tile of 4,096 positions by 8,192 tokens. The floor is what must be moved, at the speed of a copy
that is measured in the same run: `take` reads the tile, `slope` reads and writes it. "B": with the
sums over a set of tokens. "cap": with a soft cap of logits.
"""

from __future__ import annotations

from types import ModuleType

import torch
from gpu_times import copied_a_second, milliseconds
from hardware import describe
from table import show

from llm_distill.distillation.lm_head import head_tiles, head_triton
from llm_distill.distillation.lm_head.head_tiles import Tile

ROWS, WIDTH = 4096, 8192
SOFT_CAP = 30.0


def made(dtype: torch.dtype, has_set: bool, soft_cap: float | None) -> Tile:
    with torch.device("cuda"):
        products = (2 * torch.randn(ROWS, WIDTH)).to(dtype)
        opens = torch.rand(WIDTH) < 0.5 if has_set else None
        return Tile(products, torch.randint(-WIDTH, 2 * WIDTH, (ROWS,)), opens, 1.0, soft_cap)


def costs(way: ModuleType, tile: Tile) -> tuple[float, float]:
    """Milliseconds of `take` and of `slope`."""
    log_z = torch.full((ROWS,), 12.0, device="cuda")
    log_b, chosen, drawn = log_z.clone(), log_z.clone(), log_z.clone()
    has_set = tile.opens is not None
    taken = milliseconds(lambda: way.take(tile, log_z, log_b if has_set else None, chosen))
    log_z.fill_(12.0)
    slopes = chosen, -chosen, drawn if has_set else None
    return taken, milliseconds(lambda: way.slope(tile, log_z, *slopes))


def main() -> None:
    torch.manual_seed(0)
    bandwidth = copied_a_second()
    print(describe("torch", "triton"))
    print(f"a copy: {bandwidth / 1e12:.2f} TB/s; a tile of {ROWS} x {WIDTH}, milliseconds")
    lines = []
    for dtype, name in ((torch.bfloat16, "bfloat16"), (torch.float32, "float32")):
        for has_set, cap in ((False, None), (True, None), (True, SOFT_CAP)):
            floor = ROWS * WIDTH * dtype.itemsize / bandwidth * 1e3
            found = [costs(way, made(dtype, has_set, cap)) for way in (head_triton, head_tiles)]
            what = name + ", B" * has_set + ", cap" * bool(cap)
            for index, (done, least) in enumerate((("take", floor), ("slope", 2 * floor))):
                ours, torchs = found[0][index], found[1][index]
                cells = f"{least:.3f}", f"{ours:.3f}", f"{torchs:.3f}"
                ratios = f"{ours / least:.2f}", f"{torchs / ours:.1f}"
                lines.append((f"{done}, {what}", *cells, *ratios))
    show(("", "floor", "Triton", "torch", "Triton / floor", "torch / Triton"), lines)


if __name__ == "__main__":
    main()
