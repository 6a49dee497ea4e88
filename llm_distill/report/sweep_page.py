"""A sweep as one HTML page: its figures, plots of them, and links to the runs' reports."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from llm_distill.evaluation.result_rows import Figure
from llm_distill.report.charts import Drawing, Intervals, Table
from llm_distill.report.html import render_page
from llm_distill.report.sweep_cells import columns, figure_of, groups, varying
from llm_distill.runtime.disk import disk_explained, write_durably
from llm_distill.sweeps.figures import Row
from llm_distill.sweeps.grid import described
from llm_distill.sweeps.outcomes import Outcome, SweepFile, seeds_of

MOST_POINTS = 60
"""Of one plot; a plot of more could not be read."""


def write_page(
    path: Path,
    file: SweepFile,
    rows: Sequence[Row],
    notes: Sequence[str],
    root: Path,
    where: Sequence[str] = (),
) -> None:
    """Write the page.

    Args:
        path: Its file.
        file: The sweep.
        rows: The figures that are shown.
        notes: What a reader must know.
        root: The workspace, where the runs' reports are; those that are not there get no link.
        where: Which items the figures are over, if not all.

    Raises:
        WorkspaceError: it cannot be written.
    """
    page = render_sweep(file, rows, notes, root, path.parent, where)
    page = page.encode("utf-8", "replace").decode("utf-8")
    with disk_explained(path.parent, "the sweep's page: "):
        write_durably(path, page)


def render_sweep(
    file: SweepFile,
    rows: Sequence[Row],
    notes: Sequence[str],
    root: Path,
    folder: Path,
    where: Sequence[str] = (),
) -> str:
    """The whole page. folder: where it will be, from which links start."""
    tables = []
    for title, own in groups(rows):
        names, right, cells = columns(own)
        tables.append((title, Table((*names, *right), tuple(cells), len(names))))
    places = [p for p in file.places if len({str(r.settings.get(p)) for r in file.runs}) > 1]
    same = [p for p in file.places if p not in places]
    runs = [
        {
            "seed": str(run.seed),
            "setting": described(run.settings, places),
            "state": run.state,
            "why": run.why,
            "name": run.run,
            "link": _link(run, root, folder),
            "seconds": run.seconds,
        }
        for run in file.runs
    ]
    return render_page(
        "sweep.html.jinja",
        sweep=file,
        seeds=seeds_of(file.runs),
        n_settings=len({run.setting for run in file.runs}),
        notes=notes,
        where=where,
        tables=tables,
        drawings=list(_drawings(rows)),
        runs=runs,
        fixed=described(file.runs[0].settings, same) if same and file.runs else "",
    )


def _drawings(rows: Sequence[Row]) -> Iterator[Drawing]:
    """Each figure by setting, and its difference to the baseline."""
    by_figure: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        labels = [f"{v}-shot" if n == "shots" else v for n, v in row.labels.items() if n != "model"]
        by_figure.setdefault((row.stage, row.kind, *labels), []).append(row)
    for (stage, kind, *labels), own in by_figure.items():
        title = ", ".join([stage, *labels])
        values = [(row, figure_of(row)) for row in own]
        yield _drawing(f"{title}: {'accuracy' if kind == 'share' else 'value'}", values, own)
        compared = [(row, _difference(row)) for row in own if row.difference is not None]
        if compared:
            against = " / ".join(dict.fromkeys(row.baseline for row, _ in compared))
            yield _drawing(f"{title}: difference to {against}", compared, own, zero=True)


def _drawing(
    title: str, found: Sequence[tuple[Row, Figure]], own: Sequence[Row], zero: bool = False
) -> Drawing:
    """Settings as groups and models as series; models as groups where there is one setting."""
    places = varying(own)
    models = tuple(dict.fromkeys(row.labels.get("model", "") for row in own))
    values: dict[str, dict[str, Figure]] = {}
    for row, figure in found[:MOST_POINTS]:
        model = row.labels.get("model", "")
        setting = described(row.settings, places)
        group, series = (setting, model) if setting else (model or "all", "")
        values.setdefault(group, {})[series] = figure
    left = len(found) - MOST_POINTS
    note = f"The first {MOST_POINTS}; {left} more are not drawn. " if left > 0 else ""
    what = "setting" if places else "model"
    chart = Intervals(what, values, models if places else ("",), zero)
    return Drawing(title, chart, f"{note}95 % intervals.")


def _difference(row: Row) -> Figure:
    assert row.difference is not None
    mean = row.difference
    ends = mean.over_both or mean.over_seeds
    low, high = (None, None) if ends is None else (ends.low, ends.high)
    kind = "points" if row.kind == "share" else row.kind
    return Figure(row.labels, mean.value, low, high, mean.n_items, kind)


def _link(run: Outcome, root: Path, folder: Path) -> str | None:
    """The run's report as seen from the page, if it is there."""
    places = [run.report, f"runs/{run.run}/report.html" if run.run else None]
    for place in places:
        if place is not None and (root / place).is_file():
            return quote(Path(os.path.relpath(root / place, folder)).as_posix())
    return None
