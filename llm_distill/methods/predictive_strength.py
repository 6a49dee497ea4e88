"""Documents on which several models' losses are ordered as their benchmark scores are. Pure.

PreSelect ("Predictive Data Selection", arXiv 2503.00808): such documents are taken to teach what
the benchmarks ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations


def predictive_strength(losses: Sequence[float], benchmarks: Sequence[float]) -> float:
    """The share of pairs of models in which the better one has the lower loss, 0 to 1.

    A loss that is equal counts a half; models of equal benchmark scores are no pair. So 1 is the
    benchmarks' order, 0.5 what chance gives, and Kendall's τ is twice this minus 1.

    Args:
        losses: Of each model on one document. Models cut texts into different tokens, so of the
            whole document, or by a unit that all share, such as its characters.
        benchmarks: Of each model; more is better.

    Raises:
        ValueError: they differ in length, or all benchmark scores are equal.
    """
    models = [*zip(benchmarks, losses, strict=True)]
    agree, n = 0.0, 0
    for (score, loss), (other_score, other_loss) in combinations(models, 2):
        if score == other_score:
            continue
        n += 1
        better, worse = (loss, other_loss) if score > other_score else (other_loss, loss)
        agree += 1.0 if better < worse else 0.5 * (better == worse)
    if not n:
        raise ValueError("models of different benchmark scores are needed")
    return agree / n
