"""One of several weighted variants for each row, by the row's id alone."""

from __future__ import annotations

from collections.abc import Mapping

from llm_distill.methods.seeds import derive_seed


def assigned(weights: Mapping[str, float], seed: int, *parts: str | int) -> str:
    """The name of a variant, drawn with a chance in proportion to its weight.

    The same seed and parts, such as a row's id, give the same variant, whatever other rows there
    are and in which order.

    Args:
        weights: by name, each above 0; their order is that in which [0, 1) is divided among them.

    Raises:
        ValueError: there are none.
    """
    if not weights:
        raise ValueError("nothing to draw from")
    at = derive_seed(seed, *parts) / 2**31 * sum(weights.values())
    for name, weight in weights.items():
        at -= weight
        if at < 0:
            return name
    return list(weights)[-1]  # of sums that are rounded
