"""Tables of text measures: a mean for each model, and paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_distill.evaluation.item_values import ItemValues, figure
from llm_distill.evaluation.results import FigureTable
from llm_distill.methods.text_measures import TextMeasure

TITLE = "text measures"


class MeasureResults:
    """Collects the measures of answers, as they come."""

    def __init__(self, measures: Sequence[TextMeasure]) -> None:
        self._values = {name: ItemValues() for name in measures}

    def add(self, row: Mapping[str, Any]) -> None:
        """Take a row of `evaluate` with a column for each measure."""
        for name, values in self._values.items():
            values.add(row["model"], row["shots"], row["parent_id"], row[name])

    def tables(self) -> tuple[FigureTable, ...]:
        """Means, and differences where there are several models."""
        means = tuple(
            figure(*found, "share", measure=name)
            for name, values in self._values.items()
            for found in values.means()
        )
        differences = tuple(
            each
            for name, values in self._values.items()
            for each in values.differences("points", measure=name)
        )
        tables = (
            FigureTable(TITLE, means),
            FigureTable(f"{TITLE}: paired differences", differences),
        )
        return tuple(table for table in tables if table.figures)
