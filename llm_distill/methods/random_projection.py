"""Long vectors made short by random signs, so that their cosines stay nearly the same.

With R of shape [d, k] and entries ±1/√k, each with probability ½, ⟨Rᵀx, Rᵀy⟩ is ⟨x, y⟩ on average,
with an error of about ‖x‖‖y‖/√k (Johnson and Lindenstrauss). R may have 10^11 entries and is never
held: its signs are the bits of a counter-based generator (Philox), which gives any rows of it by
themselves. So the result depends on the seed alone, and not on how the work is cut into pieces.
"""

from __future__ import annotations

import numpy as np
import torch

ENTRIES = 2**24
"""Of R at once: 64 MiB in float32."""

WORDS = 4
"""Words of 64 bits that Philox gives for each value of its counter."""


def project(vectors: torch.Tensor, size: int, seed: int, *, entries: int = ENTRIES) -> torch.Tensor:
    """The vectors [n, d] as [n, size]; as they are if they are no longer than that.

    entries: how much of R is made at once; moves the result by rounding only.
    """
    n, length = vectors.shape
    if length <= size:
        return vectors
    total = torch.zeros(n, size, dtype=torch.float64, device=vectors.device)
    height = max(1, entries // size)
    for start in range(0, length, height):
        piece = vectors[:, start : start + height]
        total += piece @ signs(start, piece.shape[1], size, seed).to(piece)
    return (total / size**0.5).to(vectors.dtype)


def signs(start: int, count: int, size: int, seed: int) -> torch.Tensor:
    """Rows [start, start + count) of R · √k as int8, [count, size]."""
    turns = -(-size // (64 * WORDS))  # of the counter, a row
    generator = np.random.Philox(key=seed)
    generator.advance(start * turns)
    words = generator.random_raw(count * turns * WORDS).astype("<u8", copy=False)
    bits = np.unpackbits(words.view(np.uint8).reshape(count, -1), axis=1, count=size)
    return torch.from_numpy(bits).to(torch.int8).mul_(2).sub_(1)
