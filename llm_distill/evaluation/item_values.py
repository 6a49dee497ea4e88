"""Means of a value of each answer, such as a grade, with intervals over items, as accuracy has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from statistics import fmean
from typing import Literal

from llm_distill.evaluation.exam_results import Sitting
from llm_distill.evaluation.result_rows import Figure
from llm_distill.methods.statistics import Estimate, bootstrap, paired_bootstrap


class ItemValues:
    """A value for each answer of models to the same items; several answers to an item are averaged.

    An answer without a value (None) is left out: a mean is over the items that have one, and a
    difference over those that have one of both models.
    """

    def __init__(self) -> None:
        self._values: dict[Sitting, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def add(self, model: str, shots: int, item: str, value: float | None) -> None:
        """Take the value of an answer of the model to the item."""
        of_sitting = self._values[model, shots]
        if value is not None:
            of_sitting[item].append(value)

    def means(self) -> Iterator[tuple[Sitting, Estimate, int]]:
        """Each sitting with its mean, its 95 % interval and the number of items."""
        for sitting, items in self._values.items():
            if items:
                means = [fmean(values) for values in items.values()]
                yield sitting, bootstrap(means), len(means)

    def differences(self, kind: Literal["points", "difference"], **labels: str) -> Iterator[Figure]:
        """Each model's paired difference from the first one's, at the same number of examples."""
        first = next((model for model, _ in self._values), "")
        for (model, shots), items in self._values.items():
            before = self._values.get((first, shots), {})
            both = [item for item in before if item in items]
            if model == first or not both:
                continue
            found = paired_bootstrap(
                [fmean(before[item]) for item in both], [fmean(items[item]) for item in both]
            )
            named = {"difference": f"{model} − {first}", "shots": str(shots), **labels}
            yield Figure(named, found.value, found.low, found.high, len(both), kind)


def figure(
    sitting: Sitting,
    found: Estimate,
    n: int,
    kind: Literal["share", "number", "points"],
    **labels: str,
) -> Figure:
    """A sitting's figure for a table of results."""
    model, shots = sitting
    named = {"model": model, "shots": str(shots), **labels}
    return Figure(named, found.value, found.low, found.high, n, kind)
