"""The most similar vectors, by cosine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

AT_ONCE = 256
"""Queries compared at a time: their similarities to all keys are in memory together."""


def most_similar(
    queries: NDArray[np.floating], keys: NDArray[np.floating], k: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """For each query the `k` keys with the highest cosine, and these cosines, the highest first.

    Of equal ones the first key wins. The cosine of a vector of zeros is 0.

    Args:
        queries: [n, d].
        keys: [m, d].
        k: how many keys.

    Returns:
        Indices into `keys` and cosines, both [n, min(k, m)].
    """
    unit, against = _unit(queries), _unit(keys)
    wanted = min(k, len(keys))
    indices = np.empty((len(queries), wanted), np.intp)
    cosines = np.empty((len(queries), wanted))
    for start in range(0, len(queries), AT_ONCE):
        found = unit[start : start + AT_ONCE] @ against.T
        order = np.argsort(-found, axis=1, kind="stable")[:, :wanted]
        indices[start : start + AT_ONCE] = order
        cosines[start : start + AT_ONCE] = np.take_along_axis(found, order, axis=1)
    return indices, cosines


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    exact = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    return exact / np.where(lengths == 0, 1, lengths)
