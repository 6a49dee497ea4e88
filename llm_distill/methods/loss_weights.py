"""How much each of several losses counts."""

from __future__ import annotations

import math
from collections.abc import Sequence


def grad_mag_weights(norms: Sequence[float]) -> list[float]:
    """w_i = (1 / ‖g_i‖) / Σ_j (1 / ‖g_j‖): then all losses pull alike (GradMag, arXiv 2503.20083).

    norms: of each loss's gradient at the last layer. A loss without a gradient has nothing to say:
    it gets 0, and so does one whose gradient is infinite.

    Raises:
        ValueError: a norm is negative or no number.
    """
    if any(math.isnan(norm) or norm < 0 for norm in norms):
        raise ValueError(f"gradient norms cannot be negative or NaN: {list(norms)}")
    smallest = min((norm for norm in norms if 0 < norm < math.inf), default=0.0)
    pulls = [smallest / norm if norm > 0 else 0.0 for norm in norms]  # at most 1: no overflow
    total = sum(pulls)
    return [pull / total if total else 0.0 for pull in pulls]
