"""How often each of several things occurs, as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from llm_distill.evaluation.results import Figure, FigureTable
from llm_distill.methods.statistics import wilson_interval


def share_table(
    title: str, key: str, counts: Mapping[str, int], names: Iterable[str], n: int
) -> FigureTable:
    """The share of each name among `n`, with Wilson's interval. n: above 0."""
    figures = []
    for name in names:
        found = wilson_interval(counts.get(name, 0), n)
        figures.append(Figure({key: name}, found.value, found.low, found.high, n, "share"))
    return FigureTable(title, tuple(figures))
