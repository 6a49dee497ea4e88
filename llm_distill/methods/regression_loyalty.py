"""How far a student's numbers are its teacher's: grades, scores, estimates.

Label and probability loyalty (Xu et al. 2021, "Beyond preserved accuracy", arXiv 2109.03228) are
for labels. For numbers the correlation with the teacher's is used; arXiv 2112.12650, which names it
regression loyalty, was not at hand. A correlation does not see that all numbers are too high, so
the share of the teacher's variance that the student explains stands beside it. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any

from llm_distill.methods.statistics import Estimate, drawn_sums


def as_number(answer: str | None) -> float | None:
    """The number that an answer is; None where it is none, or not finite.

    >>> as_number("3.5"), as_number("good"), as_number("nan")
    (3.5, None, None)
    """
    try:
        found = float(answer or "")
    except ValueError:
        return None
    return found if isfinite(found) else None


def regression_loyalty(teacher: Sequence[float], student: Sequence[float]) -> dict[str, Estimate]:
    """Figures over the same items in the same order, with percentile bootstrap intervals over them.

    regression loyalty: Pearson's correlation; 1 of a copy, and of a student that is everywhere as
        much too high.
    explained: 1 − Σ (s − t)² / Σ (t − t̄)², at most 1: one minus the squared error as a share of
        the teacher's variance. 0 is always the teacher's mean; a worse student is below.
    error: The mean of |s − t|, in the unit of the numbers.
    bias: The mean of s − t.

    What is undefined is left out: the first two where the teacher's numbers are all the same, the
    correlation where the student's are. Draws in which a figure is undefined are left out.

    Raises:
        ValueError: the two differ in length, there are none, or a number is not finite.
    """
    import numpy as np

    if len(teacher) != len(student) or not teacher:
        raise ValueError("teacher and student need as many numbers, and at least one")
    t, s = np.asarray(teacher, dtype=float), np.asarray(student, dtype=float)
    if not (np.isfinite(t).all() and np.isfinite(s).all()):
        raise ValueError("numbers have to be finite")
    gaps = s - t
    a, b = t - t.mean(), s - s.mean()  # for the precision of the sums of squares
    table = np.stack([np.ones_like(t), a, b, a * a, b * b, a * b, gaps * gaps, abs(gaps), gaps], 1)
    drawn, whole = drawn_sums(table), table.sum(0)[None]
    figures: dict[str, Callable[[Any], Any]] = {
        "regression loyalty": _correlation,
        "explained": _explained,
        "error": lambda sums: sums[:, 7] / sums[:, 0],
        "bias": lambda sums: sums[:, 8] / sums[:, 0],
    }
    found = {}
    for name, figure in figures.items():
        value = float(figure(whole)[0])
        if np.isfinite(value):
            low, high = np.nanquantile(figure(drawn), (0.025, 0.975))
            found[name] = Estimate(value, float(low), float(high))
    return found


def _correlation(sums: Any) -> Any:
    n, a, b, aa, bb, ab = sums[:, :6].T
    return _ratio(ab - a * b / n, _root(aa - a * a / n, aa) * _root(bb - b * b / n, bb))


def _explained(sums: Any) -> Any:
    n, a, aa = sums[:, 0], sums[:, 1], sums[:, 3]
    return 1 - _ratio(sums[:, 6], _root(aa - a * a / n, aa) ** 2)


def _root(squares: Any, of: Any) -> Any:
    """The root; 0 where only rounding is left of sums of this size."""
    import numpy as np

    return np.sqrt(np.where(squares > 1e-12 * of, squares, 0.0))


def _ratio(above: Any, below: Any) -> Any:
    """Not a number where it is undefined."""
    import numpy as np

    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
