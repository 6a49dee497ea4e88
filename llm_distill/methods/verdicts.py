"""Verdicts of several judges as one, and how far grades are from others. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import sqrt
from statistics import fmean

from llm_distill.methods.grades import Winner
from llm_distill.methods.statistics import Estimate, bootstrap


def mean_grade(grades: Sequence[float | None]) -> float | None:
    """The mean of those that could be read; None where there is none."""
    known = [grade for grade in grades if grade is not None]
    return fmean(known) if known else None


def most_say(winners: Sequence[Winner | None]) -> Winner | None:
    """What more judges say than anything else; a tie where two verdicts are as frequent.

    Those that could not be read are left out; None where there is none.

    >>> most_say(["a", "a", "b"]), most_say(["a", "b", None])
    ('a', 'tie')
    """
    counts = Counter(winner for winner in winners if winner is not None)
    if not counts:
        return None
    (most, votes), *others = counts.most_common()
    return "tie" if others and others[0][1] == votes else most


def root_mean_square(errors: Sequence[float]) -> Estimate:
    """√ of the mean square, with the bootstrap interval over items.

    Raises:
        ValueError: there are no errors.
    """
    found = bootstrap([error * error for error in errors])
    return Estimate(sqrt(found.value), sqrt(found.low), sqrt(found.high))
