"""The weights of several losses."""

from __future__ import annotations

import math
from collections.abc import Sequence


def grad_mag_weights(norms: Sequence[float]) -> list[float]:
    """w_i = (1 / ‖g_i‖) / Σ_j (1 / ‖g_j‖): equal gradient norms (GradMag, arXiv 2503.20083).

    Args:
        norms: of each loss's gradient at the last layer. A loss whose gradient is 0 or infinite
            gets the weight 0.

    Raises:
        ValueError: a norm is negative or NaN.
    """
    if any(math.isnan(norm) or norm < 0 for norm in norms):
        raise ValueError(f"gradient norms cannot be negative or NaN: {list(norms)}")
    smallest = min((norm for norm in norms if 0 < norm < math.inf), default=0.0)
    pulls = [smallest / norm if norm > 0 else 0.0 for norm in norms]  # at most 1: no overflow
    total = sum(pulls)
    return [pull / total if total else 0.0 for pull in pulls]
