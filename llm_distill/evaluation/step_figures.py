"""How many of the steps of rationales are wrong, as a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from llm_distill.evaluation.results import Figure, FigureTable, shown
from llm_distill.rows.columns import Row


def with_step_figures(rows: Iterable[Row], metrics: dict[str, Any]) -> Iterator[Row]:
    """The rows, and after the last one a table of what `verify` counted in `metrics`, if it did."""
    yield from rows
    counts = metrics.get("wrong_steps")
    if counts is None:
        return
    both = [sum(each) for each in zip(*counts.values(), strict=True)]
    figures = tuple(
        Figure({"answer": answer}, wrong / n, n=n, kind="share")
        for answer, (wrong, n) in {"any": both, **counts}.items()
        if n
    )
    if figures:
        metrics.update(shown(FigureTable("wrong steps", figures)))
