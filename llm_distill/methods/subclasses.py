"""Pseudo-subclasses of a teacher's classes, by linear projections of its embeddings. Pure.

LELP, "Linear Projections of Teacher Embeddings for Few-Class Distillation" (arXiv 2409.20449): with
few classes a teacher's probabilities say little of a text, and what else it sees in it lies in its
last embeddings, in directions that its output layer does not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RANK = 1e-6
"""Singular values below this share of the largest count as none."""


@dataclass(frozen=True)
class ClassSplit:
    """Of one class. mean: [d], of its embeddings. directions: [parts, d], along which its texts are
    told apart, in units of the standard deviation along them.
    """

    mean: Any
    directions: Any


def unread(weights: Any) -> Any:
    """The projection [d, d] onto what an output layer [classes, d] does not read.

    Weights are centred over classes first, as a softmax does not see what all logits have in common
    (this project's; the paper's summaries speak of the null space alone).
    """
    centred = np.asarray(weights, dtype=np.float64)
    centred = centred - centred.mean(0)
    _, sizes, rows = np.linalg.svd(centred, full_matrices=False)
    read = rows[sizes > RANK * max(sizes.max(), np.finfo(float).tiny)]
    return np.eye(centred.shape[1]) - read.T @ read


def class_split(embeddings: Any, parts: int, seed: int) -> ClassSplit:
    """The first `parts` principal directions of a class's embeddings, turned at random.

    The turn spreads the variance over all of them: without it the first would decide nearly alone
    which part a text is given. Unit of the directions: the root of their mean variance (this
    project's, so that `beta` is no matter of a model's scale).

    Args:
        embeddings: [n, d], projected by `unread`, of the training texts of one class.
        parts: How many directions, one a part.
        seed: Of the turn.

    Raises:
        ValueError: there are too few texts, or fewer directions with any variance than parts.
    """
    array = np.asarray(embeddings, dtype=np.float64)
    if len(array) <= parts:
        raise ValueError(f"more than {parts} texts are needed")
    mean = array.mean(0)
    _, sizes, rows = np.linalg.svd(array - mean, full_matrices=False)
    n_there = int((sizes > RANK * max(np.abs(array).max() * len(array) ** 0.5, 1e-300)).sum())
    if n_there < parts:
        raise ValueError(f"{len(array)} texts vary along {n_there} directions, not {parts}")
    turn, upper = np.linalg.qr(np.random.default_rng(seed).standard_normal((parts, parts)))
    turn = turn * np.sign(np.diag(upper))  # uniform over all turns (Mezzadri 2007)
    unit = float(np.sqrt((sizes[:parts] ** 2).mean() / len(array)))
    signs = np.sign(rows[np.arange(parts), np.abs(rows[:parts]).argmax(1)])  # or a SVD's whim
    return ClassSplit(mean, turn @ (rows[:parts] * signs[:, None]) / unit)


def places(embeddings: Any, splits: Sequence[ClassSplit]) -> Any:
    """Where texts [n, d] lie along each class's directions: [n, classes, parts]."""
    array = np.asarray(embeddings, dtype=np.float64)
    return np.stack([(array - each.mean) @ each.directions.T for each in splits], axis=1)


def subclass_probabilities(probabilities: Any, along: Any, beta: float) -> Any:
    """p(class) · softmax over its parts of (place / beta): [n, classes · parts], class by class.

    Args:
        probabilities: [n, classes], the teacher's.
        along: [n, classes, parts], as `places` gives it.
        beta: How soft a text's share in the parts of a class is, in standard deviations.
    """
    z = np.asarray(along) / beta
    weights = np.exp(z - z.max(-1, keepdims=True))
    shares = weights / weights.sum(-1, keepdims=True)
    found = np.asarray(probabilities)[:, :, None] * shares
    return found.reshape(len(found), -1)
