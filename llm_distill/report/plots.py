"""Draws charts with matplotlib, as SVG that takes its colors from the page.

The same chart gives the same bytes. A user's matplotlibrc is ignored, and names are written
literally: `$` does not start a formula.
"""

from __future__ import annotations

import io
from importlib.util import find_spec
from typing import TYPE_CHECKING

from llm_distill.report import label_plots
from llm_distill.report.charts import (
    Calibration,
    Chart,
    Curve,
    Histogram,
    Intervals,
    Matrix,
    Scatter,
    Shares,
)
from llm_distill.report.plot_style import (
    IN_PAGE,
    RULE,
    TEXT,
    WIDTH,
    colour_of,
    name_of,
    own_style,
)
from llm_distill.report.svg import for_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INSTALL = "pip install 'llm-distill[report]'"
BAR = 0.15  # inches: the height of a bar, and the space between two groups


def available() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw(chart: Chart, name: str, label: str) -> str:
    """The chart as an `<svg>` element. name: unique in the page; label: for screen readers."""
    from matplotlib.figure import Figure

    with own_style(name):
        size = label_plots.size(chart) if isinstance(chart, Matrix) else (WIDTH, _height(chart))
        figure = Figure(figsize=size)
        axes = figure.add_subplot()
        if isinstance(chart, Shares):
            _shares(axes, chart)
        elif isinstance(chart, Intervals):
            _intervals(axes, chart)
        elif isinstance(chart, Histogram):
            _histogram(axes, chart)
        elif isinstance(chart, Scatter):
            _scatter(axes, chart)
        elif isinstance(chart, Matrix):
            label_plots.matrix(axes, chart)
        elif isinstance(chart, Calibration):
            label_plots.calibration(axes, chart)
        else:
            _curve(axes, chart)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return for_page(file.getvalue(), f"{name}-", label, IN_PAGE)


def _height(chart: Chart) -> float:
    if isinstance(chart, Intervals):
        return 0.55 + BAR * len(chart.values) * (len(chart.series) + 1)
    if isinstance(chart, Scatter):
        return 3.4
    if isinstance(chart, Calibration):
        return 4.2
    if not isinstance(chart, Shares):
        return 2.3
    if _is_crowded(chart):
        return 0.55 + 2 * BAR * len(chart.shares)
    return 0.55 + BAR * len(chart.shares) * (len(chart.series) + 1)


def _is_crowded(chart: Shares) -> bool:
    """Whether bars would fill a screen; then there are points, on one line for each group."""
    return len(chart.series) > 3 and len(chart.shares) > 3


def _shares(axes: Axes, chart: Shares) -> None:
    """Bars with intervals, group by group from the top; points where there are too many bars."""
    if _is_crowded(chart):
        places: list[float] = [float(group) for group in range(len(chart.shares))]
        _points(axes, chart, places)
        axes.set_ylim(len(places) - 0.4, -0.6)
    else:
        line = len(chart.series) + 1
        places = [group * line + line / 2 - 1 for group in range(len(chart.shares))]
        _bars(axes, chart, line)
        axes.set_ylim(len(places) * line - 1.25, -0.75)
    axes.set_yticks(places, [name_of(group) for group in chart.shares])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlim(-0.015 * chart.end if _is_crowded(chart) else 0, 1.16 * chart.end)
    ticks = [chart.end * i / 4 for i in range(5)]
    axes.set_xticks(ticks, [f"{100 * tick:g}%" for tick in ticks])
    axes.grid(axis="x")


def _bars(axes: Axes, chart: Shares, line: int) -> None:
    for group, shares in enumerate(chart.shares.values()):
        for index, series in enumerate(chart.series):
            share, y = shares.get(series), group * line + index
            if share is None:
                continue
            axes.barh(y, share.value, height=0.8, color=colour_of(chart, index))
            if share.low is not None and share.high is not None:
                axes.plot([share.low, share.high], [y, y], color=TEXT, linewidth=1)
            end = share.value if share.high is None else max(share.high, share.value)
            axes.text(end + 0.015 * chart.end, y, share.written, va="center", fontsize=9)


def _points(axes: Axes, chart: Shares, places: list[float]) -> None:
    """Points of a group are shifted a little, so that equal ones do not cover each other."""
    for index, series in enumerate(chart.series):
        shift = 0.6 * (index / (len(chart.series) - 1) - 0.5)
        found = zip(places, chart.shares.values(), strict=True)
        marks = [(shares[series].value, y + shift) for y, shares in found if series in shares]
        x, y = zip(*marks, strict=True)
        axes.plot(x, y, "o", color=colour_of(chart, index), markersize=4.5)
    for place in places[1:]:
        axes.axhline(place - 0.5, color=RULE, linewidth=0.6)


def _intervals(axes: Axes, chart: Intervals) -> None:
    """A line for each series in each group, from the top."""
    line = len(chart.series) + 1
    for group, values in enumerate(chart.values.values()):
        for index, series in enumerate(chart.series):
            found, y = values.get(series), group * line + index
            if found is None:
                continue
            colour = colour_of(chart, index)
            if found.low is not None and found.high is not None:
                axes.plot([found.low, found.high], [y, y], color=colour, linewidth=1.6)
            axes.plot([found.value], [y], "o", color=colour, markersize=4.5)
    if chart.zero:
        axes.axvline(0, color=TEXT, linewidth=0.8)
    kinds = {figure.kind for values in chart.values.values() for figure in values.values()}
    if kinds <= {"share", "points"}:
        axes.margins(x=0.04)
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        unit = "%" if kinds == {"share"} else ""
        axes.set_xticks(ticks, [f"{100 * tick:g}{unit}" for tick in ticks])
        axes.set_xlim(low, high)
    places = [group * line + (line - 2) / 2 for group in range(len(chart.values))]
    axes.set_ylim(len(places) * line - 1.25, -0.75)
    axes.set_yticks(places, [name_of(group) for group in chart.values])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")


def _histogram(axes: Axes, chart: Histogram) -> None:
    """Bars, stacked by series."""
    from matplotlib.ticker import MaxNLocator

    width = chart.edges[1] - chart.edges[0]
    centres = [edge + width / 2 for edge in chart.edges[:-1]]
    bottom = [0] * len(centres)
    for index, counts in enumerate(chart.counts.values()):
        colour = colour_of(chart, index)
        axes.bar(centres, counts, width=0.86 * width, bottom=bottom, color=colour)
        bottom = [a + b for a, b in zip(bottom, counts, strict=True)]
    axes.set_xlim(chart.edges[0], chart.edges[-1])
    axes.set_xlabel(chart.quantity)
    axes.set_ylabel("rows")
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(axis="y")


def _curve(axes: Axes, chart: Curve) -> None:
    from matplotlib.ticker import MaxNLocator

    for index, points in enumerate(chart.points.values()):
        steps, values = zip(*points, strict=True)
        colour = colour_of(chart, index)
        mark = "o" if len(points) <= 60 else ""
        axes.plot(steps, values, color=colour, linewidth=1.8, marker=mark, markersize=3)
    axes.set_xlabel(chart.over)
    axes.set_ylabel(chart.quantity)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(axis="y")


def _scatter(axes: Axes, chart: Scatter) -> None:
    """Points with their names beside them; a line marks 0, where it is a difference."""
    from matplotlib.ticker import FuncFormatter

    for index, (name, (x, y)) in enumerate(chart.points.items()):
        colour = colour_of(chart, index)
        if x.low is not None and x.high is not None:
            axes.plot([x.low, x.high], [y.value, y.value], color=colour, linewidth=1)
        if y.low is not None and y.high is not None:
            axes.plot([x.value, x.value], [y.low, y.high], color=colour, linewidth=1)
        axes.plot([x.value], [y.value], "o", color=colour, markersize=4.5)
        at, beside = (x.value, y.value), (4, 3)
        axes.annotate(name_of(name), at, xytext=beside, textcoords="offset points", fontsize=8)
    for axis, of in ((axes.xaxis, 0), (axes.yaxis, 1)):
        kinds = {point[of].kind for point in chart.points.values()}
        if kinds <= {"share", "points"}:
            unit = "%" if kinds == {"share"} else ""
            axis.set_major_formatter(FuncFormatter(lambda v, _, u=unit: f"{100 * v:.3g}{u}"))
        if kinds <= {"points", "difference"}:
            line = axes.axvline if of == 0 else axes.axhline
            line(0, color=TEXT, linewidth=0.8)
    axes.margins(0.1)
    axes.set_xlabel(chart.along)
    axes.set_ylabel(chart.up)
    axes.grid()
