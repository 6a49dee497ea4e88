"""How far a text's gradient points where that of reference rows does (LESS, arXiv 2402.04333).

score(A) = max over tasks of the mean over a task's rows z of Σ_c w_c cos(∇ℓ_c(z), Γ_c(A)): the
higher, the more a step on A lowers the loss of these rows. c are checkpoints of a short training,
w_c the mean learning rate of the epoch that ends in c, divided by their sum, and Γ what Adam would
make of A's gradient there. Every vector is normalised, or long texts, whose gradients are short,
would lose to short ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from llm_distill.methods.optimizer_step import BETA1, BETA2

EPSILON = 1e-8


def adam_direction(
    gradient: torch.Tensor, first: torch.Tensor, second: torch.Tensor
) -> torch.Tensor:
    """Γ = (β₁m + (1−β₁)g) / √(β₂v + (1−β₂)g² + ε), as LESS has it.

    So without correction for the first steps, and with ε inside of the root, unlike in a step of
    Adam. The term β₁m is the same for all texts and brings their cosines nearer to each other.

    first, second: the moments m and v.
    """
    square = torch.addcmul(BETA2 * second, gradient, gradient, value=1 - BETA2)
    return torch.lerp(first, gradient, 1 - BETA1).div_(square.add_(EPSILON).sqrt_())


def unit(vectors: torch.Tensor) -> torch.Tensor:
    """[n, k], each divided by its length; NaN where that is 0 or not finite."""
    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    usable = lengths.isfinite() & (lengths > 0)
    return vectors / torch.where(usable, lengths, torch.nan)


def task_directions(vectors: torch.Tensor, tasks: Sequence[str]) -> tuple[list[str], torch.Tensor]:
    """The tasks in order of first appearance, and the mean of the unit vectors of each, [t, k].

    The dot product of a unit vector with such a mean is the mean of its cosines to a task's rows.
    That is not the cosine to the mean gradient, in which rows with long gradients count for more.
    Vectors without a direction (see `unit`) are left out; a task that has no others is NaN.

    vectors: [n, k], of the reference rows. tasks: of each.
    """
    units = unit(vectors)
    names = list(dict.fromkeys(tasks))
    places = [[i for i, task in enumerate(tasks) if task == name] for name in names]
    return names, torch.stack([units[place].nanmean(0) for place in places])


def mean_cosines(vectors: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """[n, t]: the mean cosine of each vector [n, k] with the rows of each task [t, k]."""
    return unit(vectors) @ directions.T


def checkpoint_weights(learning_rates: Sequence[float]) -> list[float]:
    """w_c: each rate divided by the sum of all; equal ones where all rates are 0."""
    total = sum(learning_rates)
    n = len(learning_rates)
    return [rate / total for rate in learning_rates] if total else [1 / n] * n


def best_task(cosines: Sequence[Sequence[float]], weights: Sequence[float]) -> tuple[int, float]:
    """Which task has the highest Σ_c w_c · (mean cosine), and that sum.

    cosines: by checkpoint and task. weights: of the checkpoints.
    """
    by_task = [
        sum(weight * cosine for weight, cosine in zip(weights, column, strict=True))
        for column in zip(*cosines, strict=True)
    ]
    best = max(range(len(by_task)), key=by_task.__getitem__)
    return best, by_task[best]
