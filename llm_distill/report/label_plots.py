"""Draws what classifiers confuse, and how often they are right when they are how sure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_distill.report.charts import Calibration, Matrix
from llm_distill.report.plot_style import RULE, SHADE, TEXT, WIDTH, colour_of, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = 18  # characters of a label's name beside a matrix
LEAST = 0.1  # how dark a cell with the smallest share is, of 1
SMALLEST, LARGEST = 6.0, 9.0  # points: of the counts in the cells
CHARACTER = 0.65  # the width of a digit over its height, with some space around


def size(chart: Matrix) -> tuple[float, float]:
    """Width and height in inches; a matrix of many columns is as wide as the page."""
    names = max((len(_short(name)) for name in chart.columns), default=0)
    line = 0.17 if chart.is_wide else 0.24
    return (2 if chart.is_wide else 1) * WIDTH, 0.6 + 0.08 * names + line * len(chart.counts)


def matrix(axes: Axes, chart: Matrix) -> None:
    """Cells shaded by their share of the row, with the count in them where there is room."""
    columns = [_short(name) for name in chart.columns]
    rows = [_short(name) for name in chart.counts]
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xticks(range(len(columns)), columns, rotation=90)
    axes.set_yticks(range(len(rows)), rows)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.tick_params(length=0, labelsize=8 if chart.is_wide else 9.5)
    axes.set_xlabel(chart.along)
    axes.set_ylabel(chart.down)
    axes.spines[:].set_visible(False)
    figure: Any = axes.figure
    figure.draw_without_rendering()  # now it is known how much room the names leave
    figure.set_layout_engine("none")  # or thousands of cells would be measured too
    _draw_cells(axes, chart)
    for edge in range(len(columns) + 1):
        axes.axvline(edge - 0.5, color=RULE, linewidth=0.6)
    for edge in range(len(rows) + 1):
        axes.axhline(edge - 0.5, color=RULE, linewidth=0.6)


def _draw_cells(axes: Axes, chart: Matrix) -> None:
    from matplotlib.patches import Rectangle

    place = {name: index for index, name in enumerate(chart.columns)}
    cells = [
        (place[column], y, share, f"{chart.counts[row][column]:,.0f}")
        for y, row in enumerate(chart.counts)
        for column, share in chart.shares(row).items()
    ]
    high = _text_height(axes, chart, max((len(text) for *_, text in cells), default=1))
    for x, y, share, text in cells:
        dark = (SHADE, LEAST + (1 - LEAST) * share)
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=dark))
        if high >= SMALLEST:
            axes.text(x, y, text, ha="center", va="center_baseline", fontsize=high)


def _text_height(axes: Axes, chart: Matrix, most: int) -> float:
    """In points, so that `most` characters fit into a cell: all counts have one size."""
    box, figure = axes.get_window_extent(), axes.figure
    across, down = (size * 72 / figure.dpi for size in (box.width, box.height))
    wide, high = across / len(chart.columns), down / len(chart.counts)
    return min(LARGEST, wide / most / CHARACTER, 0.8 * high)


def calibration(axes: Axes, chart: Calibration) -> None:
    """Shares of right with their intervals, and the line on which both are the same."""
    from matplotlib.ticker import PercentFormatter

    axes.plot([0, 1], [0, 1], color=TEXT, linewidth=0.8, linestyle="--")
    for index, points in enumerate(chart.points.values()):
        colour = colour_of(chart, index)
        for sure, right in points:
            if right.low is not None and right.high is not None:
                axes.plot([sure, sure], [right.low, right.high], color=colour, linewidth=1)
        x, y = zip(*((sure, right.value) for sure, right in points), strict=True)
        axes.plot(x, y, color=colour, linewidth=1.8, marker="o", markersize=4.5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks([0, 0.2, 0.4, 0.6, 0.8, 1])
        axis.set_major_formatter(PercentFormatter(1, 0))
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.set_aspect("equal")
    axes.set_xlabel("mean confidence")
    axes.set_ylabel("right")
    axes.grid()


def _short(label: str) -> str:
    """Cut in the middle: labels of one list often begin alike, or end alike."""
    plain = printable(label)
    if len(plain) <= NAME:
        return plain
    return f"{plain[: NAME // 2].rstrip()}…{plain[1 - NAME // 2 :].lstrip()}"
