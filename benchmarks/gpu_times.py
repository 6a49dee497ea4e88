"""How long a call keeps a GPU busy, and the best that the GPU itself can do."""

from __future__ import annotations

from collections.abc import Callable

import torch

REPEATED_FOR = 200
"""Milliseconds, beside what warms up."""


def milliseconds(call: Callable[[], object]) -> float:
    """The median, by the GPU's own events, with nothing of what is read in its cache."""
    from triton.testing import do_bench

    found: float = do_bench(call, warmup=10, rep=REPEATED_FOR, return_mode="median")
    return found


def copied_a_second() -> float:
    """Bytes, read and written, of a copy within the GPU's memory."""
    source = torch.empty(2**30, dtype=torch.bfloat16, device="cuda").normal_()
    target = torch.empty_like(source)
    found: float = 2 * source.nbytes / milliseconds(lambda: target.copy_(source)) * 1e3
    return found


def multiplied_a_second() -> float:
    """Operations of a product of matrices in bfloat16."""
    square = torch.randn(8192, 8192, dtype=torch.bfloat16, device="cuda")
    return 2 * 8192**3 / milliseconds(lambda: square @ square) * 1e3
