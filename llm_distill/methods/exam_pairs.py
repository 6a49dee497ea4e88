"""Two models' answers to the same items: which is better, beyond an interval. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from llm_distill.errors import counted
from llm_distill.methods.statistics import Estimate, paired_bootstrap

Verdict = Literal["better", "worse", "undecided"]
MOST_NAMED = 3


@dataclass(frozen=True)
class Answered:
    """The answers of a model to an item.

    right: of each of its samples, whether it is right. text: the item as it was asked, with its
    reference.
    """

    right: Sequence[bool]
    text: str


@dataclass(frozen=True)
class Pair:
    """Accuracies of two models over the same items; `difference` is first minus second."""

    accuracy: float
    other: float
    difference: Estimate
    n: int

    def verdict(self, tolerance: float) -> Verdict:
        """Of the first: whether its whole interval lies beyond ± tolerance."""
        if self.difference.high < -tolerance:
            return "worse"
        return "better" if self.difference.low > tolerance else "undecided"


def paired(models: Mapping[str, Mapping[str, Answered]]) -> Pair:
    """Compare two models item by item; an item's value is its share of right answers.

    The interval is that of `paired_bootstrap`, over items.

    Args:
        models: By name, in this order the first and the second; of each its answers by item.

    Raises:
        ValueError: there are fewer than two items, or the two did not answer the same ones, as they
            were asked, equally often.
    """
    (_, first), (_, second) = models.items()
    for name, answers in models.items():
        missing = sorted({*first, *second}.difference(answers))
        if missing:
            raise ValueError(f"'{name}' did not answer {_listed(missing)}")
    if len(first) < 2:
        raise ValueError(f"an interval needs two items, and there is {len(first)}")
    items = list(second)  # in the exam's order, as in the exam's own figures
    other = [item for item in items if first[item].text != second[item].text]
    if other:
        raise ValueError(f"what was asked is not the same in {_listed(other)}")
    uneven = [item for item in items if len(first[item].right) != len(second[item].right)]
    if uneven:
        raise ValueError(f"one model answered more often than the other in {_listed(uneven)}")
    ours, theirs = ([fmean(of[item].right) for item in items] for of in (first, second))
    return Pair(fmean(ours), fmean(theirs), paired_bootstrap(theirs, ours), len(items))


def _listed(items: Sequence[str]) -> str:
    """`3 items, such as a, b`."""
    return f"{counted(len(items), 'item')}, such as {', '.join(items[:MOST_NAMED])}"
