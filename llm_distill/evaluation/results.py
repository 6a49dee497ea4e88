"""What stages measured: one type that the terminal, the report, cards and trackers render. Pure.

`Results.from_metrics` is the one place that knows under which keys of a manifest's `metrics` the
figures lie. A stage that has figures of its own shows them without a renderer being edited:

    context.metrics.update(shown(FigureTable("readability", (Figure({"rows": "all"}, 0.7),))))
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard, get_args

Kind = Literal["share", "points", "number"]
Row = Mapping[str, Any]

OWN = "figures"
BY, DIFFERENCES_BY = "by_", "differences_by_"


@dataclass(frozen=True)
class Figure:
    """A measured value.

    Attributes:
        labels: What it is the value of, such as `{"model": "student", "shots": "3"}`.
        value: The value; for shares and points a share in [-1, 1].
        low: Lower end of its 95 % interval, in the value's unit.
        high: Upper end of its 95 % interval, in the value's unit.
        n: Number of items that it was measured on.
        kind: How it is written: `share` as a percentage, `points` as a signed difference in
            percentage points, `number` as it is.
    """

    labels: Mapping[str, str]
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    kind: Kind = "number"

    @property
    def written(self) -> str:
        return self._written(self.value)

    @property
    def interval(self) -> str:
        """`0.2 to 0.4`, or nothing where it is not known."""
        if self.low is None or self.high is None:
            return ""
        return f"{self._written(self.low)} to {self._written(self.high)}"

    def _written(self, value: float) -> str:
        if self.kind == "share":
            return f"{value:.1%}"
        return f"{100 * value:+.1f}" if self.kind == "points" else f"{value:.4g}"


@dataclass(frozen=True)
class FigureTable:
    """A stage's own figures under a title."""

    title: str
    figures: tuple[Figure, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The labels' names, then `value`, `95 % interval` and `items`."""
        return (*self.names, "value", "95 % interval", "items")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for figure in self.figures for name in figure.labels))

    @property
    def cells(self) -> tuple[tuple[str, ...], ...]:
        """A row of text for each figure, as wide as `columns`."""
        return tuple(
            (
                *(figure.labels.get(name, "") for name in self.names),
                figure.written,
                figure.interval,
                "" if figure.n is None else f"{figure.n:,}",
            )
            for figure in self.figures
        )


@dataclass(frozen=True)
class Results:
    """All figures of a stage.

    Attributes:
        results: Of exams and lm-eval, a row for each model, number of worked examples and task.
        differences: Paired differences between models over the same items.
        by: Column to the figures broken down by it.
        differences_by: Column to the paired differences broken down by it.
        agreement: Of annotators.
        skills: What the student lacks, most frequent first.
        alignment: How texts of teacher and student aligned; None where that was not measured.
        contamination: Overlap of the exam with rows; None where that was not looked for.
        own: Tables of any other stage's own figures.
    """

    results: tuple[Row, ...] = ()
    differences: tuple[Row, ...] = ()
    by: Mapping[str, tuple[Row, ...]] | None = None
    differences_by: Mapping[str, tuple[Row, ...]] | None = None
    agreement: tuple[Row, ...] = ()
    skills: tuple[Row, ...] = ()
    alignment: Row | None = None
    contamination: Row | None = None
    own: tuple[FigureTable, ...] = ()

    @classmethod
    def from_metrics(cls, metrics: Mapping[str, Any]) -> Results:
        """Read them out of a manifest's `metrics`; what has another form is left out."""
        return cls(
            results=_rows(metrics.get("results")),
            differences=_rows(metrics.get("differences")),
            by=_broken_down(metrics, BY),
            differences_by=_broken_down(metrics, DIFFERENCES_BY),
            agreement=_rows(metrics.get("agreement")),
            skills=_rows(metrics.get("skill_profile")),
            alignment=_mapping(metrics.get("alignment")),
            contamination=_mapping(metrics.get("contamination")),
            own=tuple(
                FigureTable(str(table.get("title", "")), figures)
                for table in _rows(metrics.get(OWN))
                if (figures := tuple(map(_figure, filter(_has_value, _rows(table.get("rows"))))))
            ),
        )


def shown(*tables: FigureTable) -> dict[str, Any]:
    """What a stage adds to its metrics for these tables to be shown; plain JSON."""
    return {
        OWN: [
            {"title": t.title, "rows": [{**vars(f), "labels": dict(f.labels)} for f in t.figures]}
            for t in tables
        ]
    }


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether it is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def _broken_down(metrics: Mapping[str, Any], prefix: str) -> dict[str, tuple[Row, ...]]:
    return {
        key.removeprefix(prefix): _rows(value)
        for key, value in metrics.items()
        if key.startswith(prefix)
    }


def _rows(value: Any) -> tuple[Row, ...]:
    return tuple(r for r in value if isinstance(r, dict)) if isinstance(value, list) else ()


def _mapping(value: Any) -> Row | None:
    return value if isinstance(value, dict) else None


def _has_value(row: Row) -> bool:
    return is_number(row.get("value")) and isinstance(row.get("labels"), dict)


def _figure(row: Row) -> Figure:
    low, high, n = (v if is_number(v) else None for v in map(row.get, ("low", "high", "n")))
    kind: Kind = row["kind"] if row.get("kind") in get_args(Kind) else "number"
    labels = {str(name): str(label) for name, label in row["labels"].items()}
    return Figure(labels, row["value"], low, high, None if n is None else int(n), kind)
