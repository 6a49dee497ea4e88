"""What classifiers confuse, and how often they are right when they are how sure."""

from __future__ import annotations

from llm_distill.evaluation.results import CALIBRATION, MATRIX, Figure, FigureTable
from llm_distill.report.charts import Calibration, Drawing, Matrix
from llm_distill.report.collect import RunView
from llm_distill.report.figures import own_figures

SURE, RIGHT = "mean confidence", "right"

OF_MATRIX = (
    "Rows: {down}. Columns: {along}. The larger a cell's share of its row, the stronger its shade. "
    "The numbers are counts, written where there is room; a cell without a shade is 0."
)
OF_CALIBRATION = (
    "By confidence in ten bins, with 95 % intervals over items. On the dashed line something is "
    "right as often as it is sure; below it, it is surer than it should be."
)


def label_drawings(run: RunView) -> list[Drawing]:
    """Stages' own figures that say themselves how they are drawn."""
    drawn = {MATRIX: _matrix, CALIBRATION: _calibration}
    return [
        drawing
        for stage, own in own_figures(run)
        if own.drawn_as in drawn and (drawing := drawn[own.drawn_as](stage, own)) is not None
    ]


def _matrix(stage: str, own: FigureTable) -> Drawing:
    counts: dict[str, dict[str, float]] = {}
    for figure in own.figures:
        row = ", ".join(value for name, value in figure.labels.items() if name != own.across)
        counts.setdefault(row, {})[figure.labels.get(own.across, "")] = figure.value
    chart = Matrix(", ".join(own.names), own.across, counts)
    note = OF_MATRIX.format(down=chart.down, along=chart.along)
    return Drawing(f"{stage}: {own.title}", chart, note)


def _calibration(stage: str, own: FigureTable) -> Drawing | None:
    bins: dict[tuple[str, str], dict[str, Figure]] = {}
    for figure in own.figures:
        labels = dict(figure.labels)
        of = labels.pop(own.across, "")
        sure = labels.pop(own.over, "")
        bins.setdefault((", ".join(labels.values()), sure), {})[of] = figure
    points: dict[str, tuple[tuple[float, Figure], ...]] = {}
    for (name, _), found in bins.items():
        if SURE in found and RIGHT in found:
            points[name] = (*points.get(name, ()), (found[SURE].value, found[RIGHT]))
    if not points:
        return None
    (name,) = points if len(points) == 1 else ("",)  # one series has no legend that names it
    title = f"{stage}: calibration of {name}" if name else f"{stage}: calibration"
    return Drawing(title, Calibration(points), OF_CALIBRATION)
