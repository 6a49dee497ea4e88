"""What a plot shows, as values and as a table. `plots` draws it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from llm_distill.evaluation.result_rows import Figure, percent

CURVE_ROWS = 40
MOST_BINS = 20
ROUNDING = 1e-6


@dataclass(frozen=True)
class Table:
    """A table of text. The first `n_names` columns are names; the others are figures."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    n_names: int = 1


@dataclass(frozen=True)
class Shares:
    """Shares of each series in each group, such as models (series) by skill (group).

    Attributes:
        group: What the groups are.
        shares: Group to series to share.
        end: Where the axis ends; less than 1 where all shares are small.
    """

    first_colour: ClassVar[int] = 0  # of the series that the others are compared with

    group: str
    shares: Mapping[str, Mapping[str, Figure]]
    end: float = 1.0

    @property
    def series(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for group in self.shares.values() for name in group))

    def table(self) -> Table:
        """A row for each group, a column for each series."""
        rows = (
            (name, *(str(group.get(series, "")) for series in self.series))
            for name, group in self.shares.items()
        )
        return Table((self.group, *self.series), tuple(rows))


@dataclass(frozen=True)
class Intervals:
    """Points with their intervals, on an axis that goes no further than they do.

    Attributes:
        group: What the groups are.
        values: Group to series to value.
        series: In this order, so that charts side by side have the same colors.
        zero: Whether a line marks 0, as for differences.
    """

    first_colour: ClassVar[int] = 1

    group: str
    values: Mapping[str, Mapping[str, Figure]]
    series: tuple[str, ...]
    zero: bool = False

    def table(self) -> Table:
        """A row for each group, a column for each series."""
        rows = (
            (name, *(str(group.get(series, "")) for series in self.series))
            for name, group in self.values.items()
        )
        return Table((self.group, *(name or "value" for name in self.series)), tuple(rows))


@dataclass(frozen=True)
class Histogram:
    """Counts of values by series; bin i holds the values in [edges[i], edges[i + 1])."""

    first_colour: ClassVar[int] = 1

    quantity: str
    edges: tuple[float, ...]
    counts: Mapping[str, tuple[int, ...]]

    @property
    def series(self) -> tuple[str, ...]:
        return tuple(self.counts)

    @classmethod
    def of(
        cls, quantity: str, values: Sequence[tuple[str, float]], step: float | None = None
    ) -> Histogram:
        """Count (series, value) pairs.

        Args:
            quantity: What the values are.
            values: The pairs; those that are not finite are left out.
            step: What the values are multiples of (1 / number of items); the least distance
                between two of them unless given. A bin is a whole number of steps wide: otherwise
                some would hold two steps and others one, which looks like a comb.
        """
        finite = [(name, value) for name, value in values if math.isfinite(value)]
        edges = _edges([value for _, value in finite], step)
        counts: dict[str, Counter[int]] = {}
        for name, value in finite:
            index = int((value - edges[0]) / (edges[1] - edges[0]) + ROUNDING)
            counts.setdefault(name, Counter())[min(index, len(edges) - 2)] += 1
        bins = range(len(edges) - 1)
        return cls(quantity, edges, {name: tuple(c[i] for i in bins) for name, c in counts.items()})

    def table(self) -> Table:
        """A row for each bin, a column for each series."""
        columns = tuple(name or "rows" for name in self.series)
        rows = (
            (f"{low:.3g} to {high:.3g}", *(f"{count[index]:,}" for count in self.counts.values()))
            for index, (low, high) in enumerate(pairwise(self.edges))
        )
        return Table((self.quantity, *columns), tuple(rows))


@dataclass(frozen=True)
class Curve:
    """Values over the steps of a training, or over something else that is counted, by series."""

    first_colour: ClassVar[int] = 1

    quantity: str
    points: Mapping[str, tuple[tuple[float, float], ...]]
    over: str = "step"

    @property
    def series(self) -> tuple[str, ...]:
        return tuple(self.points)

    def table(self) -> Table:
        """A row for each step, or for some evenly spaced ones; the last is always among them."""
        values = {name: dict(points) for name, points in self.points.items()}
        steps = sorted({step for points in values.values() for step in points})
        shown = [steps[i] for i in spaced(len(steps), CURVE_ROWS)]
        rows = (
            (f"{step:g}", *(f"{of[step]:.4g}" if step in of else "" for of in values.values()))
            for step in shown
        )
        return Table((self.over, *(name or "value" for name in self.series)), tuple(rows))


@dataclass(frozen=True)
class Scatter:
    """A point for each name, one quantity against another, with the intervals of both."""

    first_colour: ClassVar[int] = 1

    along: str
    up: str
    points: Mapping[str, tuple[Figure, Figure]]

    @property
    def series(self) -> tuple[str, ...]:
        return tuple(self.points)

    def table(self) -> Table:
        """A row for each name."""
        rows = ((name, str(x), str(y)) for name, (x, y) in self.points.items())
        return Table(("", self.along, self.up), tuple(rows))


@dataclass(frozen=True)
class Matrix:
    """How often each of some (the rows) was said to be which (the columns).

    Attributes:
        down: What the rows are.
        along: What the columns are.
        counts: Row to column to count. A row may have no counts, or none but 0.
    """

    first_colour: ClassVar[int] = 1
    series: ClassVar[tuple[str, ...]] = ()
    most_narrow: ClassVar[int] = 14  # columns beside other charts; more take the page's width

    down: str
    along: str
    counts: Mapping[str, Mapping[str, float]]

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for row in self.counts.values() for name in row))

    @property
    def is_wide(self) -> bool:
        return len(self.columns) > self.most_narrow

    def shares(self, row: str) -> dict[str, float]:
        """Of the row's sum, by column; nothing for those with a count of 0."""
        counts = {name: count for name, count in self.counts[row].items() if count > 0}
        return {name: count / sum(counts.values()) for name, count in counts.items()}

    def table(self) -> Table:
        """A row for each row, with its counts."""
        rows = (
            (name, *(f"{row[column]:,.0f}" if column in row else "" for column in self.columns))
            for name, row in self.counts.items()
        )
        return Table((f"{self.down} ↓ {self.along} →", *self.columns), tuple(rows))


@dataclass(frozen=True)
class Calibration:
    """How often something is right against how sure it was, in bins by that, by series.

    Attributes:
        points: Series to (mean confidence, share of right with its interval) of each bin.
    """

    first_colour: ClassVar[int] = 1

    points: Mapping[str, tuple[tuple[float, Figure], ...]]

    @property
    def series(self) -> tuple[str, ...]:
        return tuple(self.points)

    def table(self) -> Table:
        """A row for each bin of each series."""
        rows = (
            (name, percent(sure), str(right), "" if right.n is None else f"{right.n:,}")
            for name, points in self.points.items()
            for sure, right in points
        )
        return Table(("", "mean confidence", "right (95 % interval)", "items"), tuple(rows))


Chart = Shares | Intervals | Histogram | Curve | Scatter | Matrix | Calibration


@dataclass(frozen=True)
class Drawing:
    """A chart with its title; note: what a reader must know."""

    title: str
    chart: Chart
    note: str = ""


def spaced(total: int, most: int) -> list[int]:
    """At most `most` indices below `total`, evenly spaced, with the first and the last."""
    if total <= most:
        return list(range(total))
    return [round(i * (total - 1) / (most - 1)) for i in range(most)]


def _edges(values: Sequence[float], step: float | None) -> tuple[float, ...]:
    """Bins centered on multiples of their width; they cover [0, 1] and all values."""
    low, high = min([0.0, *values]), max([1.0, *values])
    if step is None:
        ordered = sorted(values)
        gaps = [b - a for a, b in pairwise(ordered) if b - a > ROUNDING]
        step = min(gaps, default=(high - low) / MOST_BINS)
    width = step * max(1, math.ceil((high - low) / step / MOST_BINS - ROUNDING))
    n_bins = math.ceil((high - low) / width - ROUNDING) + 1
    return tuple(low + (i - 0.5) * width for i in range(n_bins + 1))
