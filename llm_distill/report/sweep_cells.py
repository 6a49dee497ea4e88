"""A sweep's figures as rows of text, for the terminal and the page alike. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llm_distill.evaluation.result_rows import Figure, Kind
from llm_distill.methods.statistics import Estimate
from llm_distill.sweeps.figures import Mean, Row
from llm_distill.sweeps.grid import short_names, written

SEEDS, BOTH = "over seeds", "over seeds and items"


def groups(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """(title, rows) for each stage and kind of figure, in their order."""
    found: dict[tuple[str, Kind, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row.stage, row.kind, row.labels.get("table", "")), []).append(row)
    for (stage, kind, table), own in found.items():
        what = table or ("accuracy" if kind == "share" else "figures")
        yield f"{stage}: {what}, mean over seeds, 95 % intervals", own


def columns(rows: Sequence[Row]) -> tuple[list[str], list[str], list[tuple[str, ...]]]:
    """Names of the columns of text, of those of figures, and a row of cells for each figure.

    Left out are settings and labels that are the same in all rows, apart from the model, and
    columns of figures without any.
    """
    places = varying(rows)
    short = short_names(places)
    names = [
        name
        for name in dict.fromkeys(n for row in rows for n in row.labels)
        if name == "model" or len({row.labels.get(name) for row in rows}) > 1
    ]
    share = "share" if "table" in rows[0].labels else "accuracy"
    right = ["value" if rows[0].kind == "number" else share, SEEDS, BOTH]
    differs = any(row.difference is not None for row in rows)
    against = dict.fromkeys(row.baseline for row in rows if row.baseline)
    if differs:
        right += [f"− {' / '.join(against)}", SEEDS, BOTH]
    right += ["seeds", "items"]
    cells = []
    for row in rows:
        shown = [written(row.settings.get(place)) for place in places]
        shown += [row.labels.get(name, "") for name in names]
        shown += _spelled(row.mean, row.kind)
        if differs:
            points: Kind = "points" if row.kind == "share" else row.kind
            none = ["", "", ""]
            shown += none if row.difference is None else _spelled(row.difference, points, sign=True)
        items = "" if row.mean.n_items is None else f"{row.mean.n_items:,}"
        cells.append((*shown, str(len(row.mean.seeds)), items))
    n_names = len(places) + len(names)
    shown_columns = [
        index
        for index in range(n_names + len(right))
        if index < n_names or any(row[index] for row in cells)
    ]
    cells = [tuple(row[index] for index in shown_columns) for row in cells]
    right = [right[index - n_names] for index in shown_columns if index >= n_names]
    return [short[place] for place in places] + names, right, cells


def varying(rows: Sequence[Row]) -> list[str]:
    """The places whose values are not the same in all rows."""
    places = dict.fromkeys(place for row in rows for place in row.settings)
    return [p for p in places if len({written(row.settings.get(p)) for row in rows}) > 1]


def figure_of(row: Row) -> Figure:
    """With the widest interval that there is."""
    ends = row.mean.over_both or row.mean.over_seeds
    low, high = (None, None) if ends is None else (ends.low, ends.high)
    return Figure(row.labels, row.mean.value, low, high, row.mean.n_items, row.kind)


def _spelled(mean: Mean, kind: Kind, sign: bool = False) -> list[str]:
    value = Figure({}, mean.value, kind=kind).written
    if sign and kind == "number":
        value = f"{mean.value:+.4g}"
    return [value, _interval(mean.over_seeds, kind), _interval(mean.over_both, kind)]


def _interval(found: Estimate | None, kind: Kind) -> str:
    return (
        "" if found is None else Figure({}, found.value, found.low, found.high, kind=kind).interval
    )
