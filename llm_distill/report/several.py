"""Several runs on one page: their results side by side, what differs, and plots over the runs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from llm_distill.evaluation.result_rows import Figure
from llm_distill.report import differences
from llm_distill.report.charts import Curve, Drawing, Shares, Table
from llm_distill.report.collect import RunView
from llm_distill.report.figures import CURVES, curve_points
from llm_distill.report.html import render_page

REPORT = "report.html"
MOST_SAID = 2
"""Settings that are said in a run's label, and reasons why a stage differs."""
MOST_LETTERS = 18
"""Of a setting's value in a label."""


@dataclass(frozen=True)
class ShownRun:
    """A run with its label, such as `A, seed: 1`, and the address of its own report, if any."""

    view: RunView
    letter: str
    label: str
    report: str | None

    @property
    def started(self) -> str:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(self.view.record.started))

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in self.view.stages)

    @property
    def tokens(self) -> int:
        return sum(stage.tokens for stage in self.view.stages)

    @property
    def cost(self) -> float:
        return sum(stage.cost for stage in self.view.stages)


@dataclass(frozen=True)
class ShownResults:
    """What a stage measured, a column for each run. of_models: it is of models, as exams are."""

    stage: str
    table: Table
    drawings: tuple[Drawing, ...]
    of_models: bool


def render_several(views: Sequence[RunView], folder: Path) -> str:
    """The whole page. folder: where it will lie, from which links start."""
    changed = differences.settings(*views)
    runs = [
        ShownRun(
            view,
            letter,
            _label(letter, [(row[0], row[1 + n]) for row in changed]),
            _report(view, folder),
        )
        for n, (view, letter) in enumerate(zip(views, _letters(len(views)), strict=True))
    ]
    labels = tuple(run.label for run in runs)
    letters = tuple(run.letter for run in runs)
    return render_page(
        "several.html.jinja",
        runs=runs,
        results=list(_results(views, labels))[::-1],  # the last exam first
        curves=list(_curves(views, labels)),
        settings=Table(("setting", *letters), tuple(changed), 1 + len(runs)),
        stages=_stages(views, letters),
    )


def _letters(n: int) -> Iterator[str]:
    """A to Z, then A2 to Z2, and so on."""
    for index in range(n):
        round_ = index // 26
        yield f"{chr(ord('A') + index % 26)}{round_ + 1 if round_ else ''}"


def _label(letter: str, changed: Sequence[tuple[str, str]]) -> str:
    """With the settings that differ, if they are few and short."""
    said = [f"{place.rpartition('.')[2]}: {value}" for place, value in changed]
    if len(said) > MOST_SAID or any(len(value) > MOST_LETTERS for _, value in changed):
        return letter
    return ", ".join([letter, *said])


def _report(view: RunView, folder: Path) -> str | None:
    path = view.record.directory / REPORT
    return quote(Path(os.path.relpath(path, folder)).as_posix()) if path.is_file() else None


def _results(views: Sequence[RunView], labels: Sequence[str]) -> Iterator[ShownResults]:
    """Of each stage that measured something; of two runs also their difference."""
    found = differences.figures(*views)
    for name in dict.fromkeys(each.stage for each in found):
        own = [each for each in found if each.stage == name]
        change = len(views) == 2 and any(each.change for each in own)
        rows = (
            (
                each.of,
                *(differences.ABSENT if it is None else str(it) for it in each.figures),
                *((each.change,) if change else ()),
            )
            for each in own
        )
        columns = ("figure", *labels, *(("B − A",) if change else ()))
        of_models = any(
            stage.results.models for view in views if (stage := view.stage(name)) is not None
        )
        drawings = tuple(_by_run(name, views, labels))
        yield ShownResults(name, Table(columns, tuple(rows)), drawings, of_models)


def _by_run(name: str, views: Sequence[RunView], labels: Sequence[str]) -> Iterator[Drawing]:
    """An exam's accuracies by run, apart for each number of worked examples."""
    found: dict[int | None, dict[str, dict[str, Figure]]] = {}
    for view, label in zip(views, labels, strict=True):
        stage = view.stage(name)
        for row in stage.results.exam if stage else ():
            found.setdefault(row.shots, {}).setdefault(label, {})[row.model] = row.as_figure
    for shots, by_run in found.items():
        which = "" if shots is None else f", {shots}-shot"
        yield Drawing(f"{name}{which}: accuracy by run", Shares("run", by_run))


def _curves(views: Sequence[RunView], labels: Sequence[str]) -> Iterator[Drawing]:
    """Each training's curves, a line for each run."""
    for name in _names(views):
        for quantity, keys in CURVES.items():
            for key, which in keys.items():
                lines = {
                    label: points
                    for view, label in zip(views, labels, strict=True)
                    if (stage := view.stage(name)) and (points := curve_points(stage, key))
                }
                if lines:
                    yield Drawing(f"{name}: {which} {quantity}", Curve(quantity, lines))


def _names(views: Sequence[RunView]) -> list[str]:
    return list(dict.fromkeys(stage.name for view in views for stage in view.stages))


def _stages(views: Sequence[RunView], letters: Sequence[str]) -> Table:
    """The stages that differ: what each run has, and how that differs from the first's."""
    rows = []
    for each in differences.stages(*views):
        cells = []
        for index, view in enumerate(each.views):
            why = each.why(index)
            more = "; …" if len(why) > MOST_SAID else ""
            reasons = f" ({'; '.join(why[:MOST_SAID])}{more})" if why else ""
            cells.append(f"{differences.described(view)}{reasons}")
        rows.append((each.name, *cells))
    return Table(("stage", *letters), tuple(rows), 1 + len(letters))
