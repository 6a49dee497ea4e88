"""How often texts were given which label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llm_distill.evaluation.results import Figure, FigureTable
from llm_distill.methods.statistics import wilson_interval


def label_shares(counts: Mapping[str, int], names: Sequence[str], n: int) -> FigureTable:
    """The share of `n` texts with each label, with Wilson's interval. n: above 0."""
    figures = []
    for name in names:
        found = wilson_interval(counts.get(name, 0), n)
        figures.append(Figure({"label": name}, found.value, found.low, found.high, n, "share"))
    return FigureTable("share of texts by label", tuple(figures))


def mean_probabilities(names: Sequence[str], means: Sequence[float]) -> FigureTable:
    """How likely a teacher finds each label on the whole: what calibration divides by."""
    figures = [
        Figure({"label": name}, mean, kind="share") for name, mean in zip(names, means, strict=True)
    ]
    return FigureTable("mean probability before calibration", tuple(figures))
