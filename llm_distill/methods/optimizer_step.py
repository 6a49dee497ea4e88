"""What one optimizer step makes of a weight, as a function: the weight given stays as it is.

AdamW, with gradient g and the moments m, v of the steps before, of which there were t:
m' = β₁m + (1−β₁)g, v' = β₂v + (1−β₂)g², and the weight goes from w to
w (1 − lr·λ) − lr · m̂ / (√v̂ + ε), where m̂ = m' / (1−β₁ᵗ⁺¹) and v̂ = v' / (1−β₂ᵗ⁺¹).
"""

from __future__ import annotations

import math

import torch

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Those of transformers' Trainer, with which every training of this package runs."""


def adamw_step(
    weight: torch.Tensor,
    gradient: torch.Tensor,
    first: torch.Tensor,
    second: torch.Tensor,
    n_steps: int,
    learning_rate: float,
    weight_decay: float = 0.0,
) -> torch.Tensor:
    """The weight after one step of AdamW.

    first, second: the moments m and v before it; n_steps: t, the steps that made them.
    """
    mean = torch.lerp(first, gradient, 1 - BETA1)
    square = torch.addcmul(BETA2 * second, gradient, gradient, value=1 - BETA2)
    size = square.sqrt().div_(math.sqrt(1 - BETA2 ** (n_steps + 1))).add_(EPSILON)
    kept = weight * (1 - learning_rate * weight_decay)
    return kept.addcdiv_(mean, size, value=-learning_rate / (1 - BETA1 ** (n_steps + 1)))


def sgd_step(
    weight: torch.Tensor, gradient: torch.Tensor, learning_rate: float, weight_decay: float = 0.0
) -> torch.Tensor:
    """The weight after one step of plain gradient descent."""
    return (weight * (1 - learning_rate * weight_decay)).sub_(gradient, alpha=learning_rate)
