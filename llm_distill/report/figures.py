"""From stages to what is drawn of them: exam results, distributions of scores, training curves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from llm_distill.evaluation.result_rows import Difference, ExamRow
from llm_distill.evaluation.results import Breakdown, Results
from llm_distill.report.charts import Chart, Curve, Histogram, Share, Shares, Table
from llm_distill.report.collect import RunView, StageView
from llm_distill.report.samples import read_rows

MOST_GROUPS = 30
UNCOUNTED = ExamRow(model="", accuracy=0.0)
NAMES = ("model", "task", "metric", "shots", "filter")

# What a training's history holds: key -> what it is called. Points without it are skipped.
CURVES = {
    "loss": {"loss": "training", "eval_loss": "validation"},
    "reward margin": {"rewards/margins": "training", "eval_rewards/margins": "validation"},
}


@dataclass(frozen=True)
class Drawing:
    """A chart of a stage. note: what must be known to read it."""

    stage: str
    title: str
    chart: Chart
    note: str = ""


@dataclass(frozen=True)
class Change:
    """A difference between two models, and the accuracies of both."""

    row: Difference
    before: float | None
    after: float | None


@dataclass(frozen=True)
class Exam:
    """An evaluation's figures: the table of results, what changed, and its charts."""

    stage: str
    results: Table
    changes: tuple[Change, ...]
    charts: tuple[Drawing, ...]
    contamination: Table | None


def exams(run: RunView) -> list[Exam]:
    """Every stage with `results` in its metrics, in the run's order."""
    return [
        Exam(
            stage.name,
            _results_table(measured),
            tuple(_changes(measured)),
            tuple(_exam_charts(stage, measured)),
            _contamination(measured),
        )
        for stage in run.stages
        if (measured := stage.results).rows
    ]


def own_tables(run: RunView) -> list[tuple[str, Table]]:
    """(`stage: title`, table) for each table of figures that a stage shows of its own."""
    return [
        (f"{stage.name}: {own.title}", Table(own.columns, own.cells, len(own.names)))
        for stage in run.stages
        for own in stage.results.own
    ]


def distributions(run: RunView) -> list[Drawing]:
    """Scores and preference margins, of the stages that add them."""
    views = {stage.name: stage for stage in run.stages}
    found = []
    for stage in run.stages:
        inherited = {c for name in stage.inputs if name in views for c in views[name].columns}
        for column, by, what in (
            ("score", "strategy", f"score by {stage.kind}"),
            ("margin", "kind", "margin of chosen over rejected"),
        ):
            if column in stage.columns - inherited and stage.directory is not None:
                figure = _distribution(stage, column, by, what)
                if figure is not None:
                    found.append(figure)
    return found


def trainings(run: RunView) -> list[Drawing]:
    """What each training's history holds."""
    found = []
    for stage in run.stages:
        history = stage.results.history
        for quantity, keys in CURVES.items():
            points = {
                label: tuple(
                    (point["step"], point[key])
                    for point in history
                    if "step" in point and key in point
                )
                for key, label in keys.items()
            }
            drawn = {label: line for label, line in points.items() if line}
            if drawn:
                title = f"{stage.name}: {quantity}"
                found.append(Drawing(stage.name, title, Curve(quantity, drawn)))
    return found


def _results_table(measured: Results) -> Table:
    """The columns that there are. Counts that are 0 everywhere say so: nothing was unreadable."""
    rows = measured.rows
    found = [row.as_figure for row in rows]
    exam = [row if isinstance(row, ExamRow) else UNCOUNTED for row in rows]
    names = [name for name in NAMES if any(name in figure.labels for figure in found)]
    shown = [(name, [figure.labels.get(name, "") for figure in found]) for name in names]
    for kind, title in (("share", "accuracy"), ("number", "value")):
        cells = [str(figure) if figure.kind == kind else "" for figure in found]
        shown.append((f"{title} (95 % interval)", cells))
    for title, counts in (
        ("items", [figure.n for figure in found]),
        ("answers an item", [row.samples for row in exam]),
        ("unreadable", [row.parse_failures for row in exam]),
        ("truncated", [row.truncated for row in exam]),
        ("errors", [row.errors for row in exam]),
        ("tokens", [row.tokens for row in exam]),
    ):
        shown.append((title, ["" if count is None else f"{count:,}" for count in counts]))
    passes = [row.pass_at or {} for row in exam]
    for k in dict.fromkeys(k for at in passes for k in at):
        shown.append((f"pass@{k}", [_percent(at.get(k)) for at in passes]))
    shown.append(("majority", [_percent(row.majority) for row in exam]))
    columns, cells_by_column = zip(*(each for each in shown if any(each[1])), strict=True)
    return Table(columns, tuple(zip(*cells_by_column, strict=True)), len(names))


def _changes(measured: Results) -> Iterator[Change]:
    accuracy = {(row.model, row.shots): row.accuracy for row in measured.exam}
    for row in measured.differences:
        before, after = ((model, row.shots) for model in (row.baseline, row.model))
        yield Change(row, accuracy.get(before), accuracy.get(after))


def _exam_charts(stage: StageView, measured: Results) -> Iterator[Drawing]:
    whole: dict[str, dict[str, Share]] = {}
    for row in measured.exam:
        group = "" if row.shots is None else f"{row.shots}-shot"
        whole.setdefault(group, {})[row.model] = _share(row)
    if whole:
        yield Drawing(stage.name, "Accuracy, with 95 % intervals", Shares("shots", whole))
    for by in measured.by:
        yield from _broken_down(stage, by)


def _broken_down(stage: StageView, by: Breakdown) -> Iterator[Drawing]:
    for shots in dict.fromkeys(row.shots for row in by.rows):
        groups: dict[str, dict[str, Share]] = {}
        sizes: dict[str, int] = {}
        for row in by.rows:
            if row.shots == shots:
                name = str(row.group)
                groups.setdefault(name, {})[row.model] = _share(row)
                sizes[name] = row.n or 0
        largest = sorted(groups, key=lambda name: -sizes[name])[:MOST_GROUPS]
        drawn = {name: shares for name, shares in groups.items() if name in largest}
        left = len(groups) - len(drawn)
        note = f"The {MOST_GROUPS} with the most items; {left} more are not drawn." if left else ""
        suffix = "" if shots is None else f", {shots}-shot"
        yield Drawing(
            stage.name, f"Accuracy by {by.column}{suffix}", Shares(by.column, drawn), note
        )


def _share(row: ExamRow) -> Share:
    return Share(row.accuracy, row.low, row.high)


def _distribution(stage: StageView, column: str, by: str, what: str) -> Drawing | None:
    try:
        rows = read_rows(stage)
        names = list(rows[by]) if by in rows.column_names else [""] * len(rows)
        values = zip(names, rows[column], strict=True)
        known = [(str(name or ""), float(value)) for name, value in values if value is not None]
        steps = [n for n in rows["n_items"] if n] if "n_items" in rows.column_names else []
    except Exception:  # the sample of the stage's rows says what is wrong with them
        return None
    if not known:
        return None
    missing = len(names) - len(known)
    note = f"{missing:,} of {len(names):,} rows have no {column}." if missing else ""
    chart = Histogram.of(what, known, 1 / max(steps) if steps else None)
    return Drawing(stage.name, f"{stage.name}: {what}", chart, note)


def _contamination(measured: Results) -> Table | None:
    """Items of the exam that overlap with the rows of a stage, if that was looked for."""
    found = measured.contamination
    if found is None:
        return None
    of = "" if found.n_items is None else str(found.n_items)
    rows = tuple((stage, f"{count:,}", of) for stage, count in found.rows.items())
    overlap = f"items that share {found.ngram or 'some'} words in a row"
    return Table(("stage", overlap, "of"), rows)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
