"""When rounds of training stop, and which of them was the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from llm_distill.methods.statistics import paired_bootstrap


@dataclass(frozen=True)
class Progressed:
    """What the rounds so far have come to.

    means: of each round. best: the round with the highest mean, counted from 1; of equals the
        first. gained: the last round that was better, item by item, than the last before it that
        was: the 95 % interval of the paired difference is above zero. The first round counts.
    """

    means: tuple[float, ...]
    best: int
    gained: int

    @property
    def since(self) -> int:
        """How many rounds there were without a gain."""
        return len(self.means) - self.gained


def progressed(rounds: Sequence[Mapping[str, float]]) -> Progressed:
    """Compare rounds by the figures of the same items; the higher, the better.

    A round is compared with the last that was a gain, and not with the one before it, so that small
    steps in one direction add up.

    Args:
        rounds: For each, the figure of each item by id.

    Raises:
        ValueError: there are no rounds, no items, or two rounds have other items.
    """
    first = rounds[0].keys() if rounds else {}
    if not first or any(each.keys() != first for each in rounds):
        raise ValueError("rounds are compared by figures of the same items, one or more")
    gained = 1
    for number, after in enumerate(rounds[1:], start=2):
        before = rounds[gained - 1]
        found = paired_bootstrap([before[i] for i in first], [after[i] for i in first])
        gained = number if found.low > 0 else gained
    means = tuple(fmean(each.values()) for each in rounds)
    return Progressed(means, 1 + means.index(max(means)), gained)


def is_spent(rounds: Sequence[float], most: float) -> bool:
    """Whether another round that takes as much as the last would take more than `most` in all."""
    return sum(rounds) + rounds[-1] > most
