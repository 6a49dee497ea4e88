"""From stages to what is drawn of them: exam results, distributions of scores, training curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_distill.evaluation.results import Results
from llm_distill.evaluation.results import is_number as _is_number
from llm_distill.report.charts import Chart, Curve, Histogram, Share, Shares, Table
from llm_distill.report.collect import RunView, StageView
from llm_distill.report.samples import read_rows

MOST_GROUPS = 30

# What a training's history holds: key -> what it is called. Points without it are skipped.
CURVES = {
    "loss": {"loss": "training", "eval_loss": "validation"},
    "reward margin": {"rewards/margins": "training", "eval_rewards/margins": "validation"},
}


@dataclass(frozen=True)
class Figure:
    """A chart of a stage. note: what must be known to read it."""

    stage: str
    title: str
    chart: Chart
    note: str = ""


@dataclass(frozen=True)
class Difference:
    """How much more of the same items one model answers than another, as shares."""

    model: str
    baseline: str
    shots: Any
    value: float
    low: float | None
    high: float | None
    before: float | None
    after: float | None
    p_value: float | None


@dataclass(frozen=True)
class Exam:
    """An evaluation's figures: the table of results, differences, and its charts."""

    stage: str
    results: Table
    differences: tuple[Difference, ...]
    charts: tuple[Figure, ...]
    contamination: Table | None


def exams(run: RunView) -> list[Exam]:
    """Every stage with `results` in its metrics, in the run's order."""
    found = []
    for stage in run.stages:
        results = result_rows(stage.results)
        if results:
            found.append(
                Exam(
                    stage.name,
                    _results_table(results),
                    tuple(_differences(stage.results, results)),
                    tuple(_exam_charts(stage, results)),
                    _contamination(stage.results),
                )
            )
    return found


def own_tables(run: RunView) -> list[tuple[str, Table]]:
    """(`stage: title`, table) for each table of figures that a stage shows of its own."""
    return [
        (f"{stage.name}: {own.title}", Table(own.columns, own.cells, len(own.names)))
        for stage in run.stages
        for own in stage.results.own
    ]


def distributions(run: RunView) -> list[Figure]:
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


def trainings(run: RunView) -> list[Figure]:
    """What each training's history holds."""
    found = []
    for stage in run.stages:
        history = _rows(stage.metrics, "history")
        for quantity, keys in CURVES.items():
            points = {
                label: tuple(
                    (float(row["step"]), float(row[key]))
                    for row in history
                    if _is_number(row.get("step")) and _is_number(row.get(key))
                )
                for key, label in keys.items()
            }
            drawn = {label: line for label, line in points.items() if line}
            if drawn:
                found.append(
                    Figure(stage.name, f"{stage.name}: {quantity}", Curve(quantity, drawn))
                )
    return found


def result_rows(measured: Results) -> list[Mapping[str, Any]]:
    """What an evaluation found: one row a model, number of worked examples, task or figure."""
    agreement = [
        {**row, "model": ", ".join(row["annotators"]), "metric": row["figure"]}
        for row in measured.agreement
        if "figure" in row and isinstance(row.get("annotators"), list)
    ]
    return list(measured.results or agreement)


def share(row: Mapping[str, Any]) -> Share | None:
    """A row's accuracy with its interval; None where it has none."""
    if not _is_number(row.get("accuracy")):
        return None
    low, high = row.get("low"), row.get("high")
    bounds = (float(low), float(high)) if _is_number(low) and _is_number(high) else (None, None)
    return Share(float(row["accuracy"]), *bounds)


def sitting(row: Mapping[str, Any]) -> str:
    """`student, 3-shot`: what tells a row of results from the others."""
    parts = [
        str(row.get(name))
        for name in ("model", "task", "metric", "filter")
        if row.get(name) not in (None, "none")
    ]
    if row.get("shots") is not None:
        parts.append(f"{row['shots']}-shot")
    return ", ".join(parts)


def _results_table(results: list[Mapping[str, Any]]) -> Table:
    """The columns that there are. Counts that are 0 everywhere say so: nothing was unreadable."""
    names = [n for n in ("model", "task", "metric", "shots") if any(n in row for row in results)]
    if any(row.get("filter", "none") != "none" for row in results):
        names.append("filter")
    shown: list[tuple[str, list[str]]] = [
        (name, [str(row.get(name, "")) for row in results]) for name in names
    ]
    if any(share(row) for row in results):
        shown.append(("accuracy (95 % interval)", [str(share(row) or "") for row in results]))
    if any(_is_number(row.get("value")) for row in results):
        shown.append(("value (95 % interval)", [_value(row) for row in results]))
    for key, title in (
        ("n", "items"),
        ("samples", "answers an item"),
        ("parse_failures", "unreadable"),
        ("truncated", "truncated"),
        ("errors", "errors"),
        ("tokens", "tokens"),
    ):
        if any(_is_number(row.get(key)) for row in results):
            cells = [f"{row[key]:,}" if _is_number(row.get(key)) else "" for row in results]
            shown.append((title, cells))
    passes = [row["pass_at"] for row in results if isinstance(row.get("pass_at"), dict)]
    for k in dict.fromkeys(k for at in passes for k in at):
        cells = [_percent((row.get("pass_at") or {}).get(k)) for row in results]
        shown.append((f"pass@{k}", cells))
    if any(_is_number(row.get("majority")) for row in results):
        shown.append(("majority", [_percent(row.get("majority")) for row in results]))
    columns, cells_by_column = zip(*shown, strict=True)
    return Table(columns, tuple(zip(*cells_by_column, strict=True)), len(names))


def _differences(measured: Results, results: list[Mapping[str, Any]]) -> Iterator[Difference]:
    accuracy = {(row.get("model"), row.get("shots")): row.get("accuracy") for row in results}
    for row in measured.differences:
        if _is_number(row.get("difference")):
            yield Difference(
                model=str(row.get("model")),
                baseline=str(row.get("baseline")),
                shots=row.get("shots"),
                value=row["difference"],
                low=row.get("low"),
                high=row.get("high"),
                before=accuracy.get((row.get("baseline"), row.get("shots"))),
                after=accuracy.get((row.get("model"), row.get("shots"))),
                p_value=row.get("p_value"),
            )


def _exam_charts(stage: StageView, results: list[Mapping[str, Any]]) -> Iterator[Figure]:
    whole: dict[str, dict[str, Share]] = {}
    for row in results:
        found = share(row)
        if found is not None:
            group = "" if row.get("shots") is None else f"{row['shots']}-shot"
            whole.setdefault(group, {})[str(row.get("model"))] = found
    if whole:
        yield Figure(stage.name, "Accuracy, with 95 % intervals", Shares("shots", whole))
    for column, rows in (stage.results.by or {}).items():
        yield from _broken_down(stage, column, rows)


def _broken_down(
    stage: StageView, column: str, rows: Sequence[Mapping[str, Any]]
) -> Iterator[Figure]:
    for shots in dict.fromkeys(row.get("shots") for row in rows):
        groups: dict[str, dict[str, Share]] = {}
        sizes: dict[str, int] = {}
        for row in rows:
            found = share(row)
            if row.get("shots") == shots and found is not None:
                name = str(row.get(column))
                groups.setdefault(name, {})[str(row.get("model"))] = found
                sizes[name] = int(row.get("n") or 0)
        largest = sorted(groups, key=lambda name: -sizes[name])[:MOST_GROUPS]
        drawn = {name: shares for name, shares in groups.items() if name in largest}
        left = len(groups) - len(drawn)
        note = f"The {MOST_GROUPS} with the most items; {left} more are not drawn." if left else ""
        suffix = "" if shots is None else f", {shots}-shot"
        if drawn:
            yield Figure(stage.name, f"Accuracy by {column}{suffix}", Shares(column, drawn), note)


def _distribution(stage: StageView, column: str, by: str, what: str) -> Figure | None:
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
    return Figure(stage.name, f"{stage.name}: {what}", chart, note)


def _contamination(measured: Results) -> Table | None:
    """Items of the exam that overlap with the rows of a stage, if that was looked for."""
    found = measured.contamination
    if found is None or not isinstance(found.get("rows"), dict):
        return None
    rows = tuple(
        (str(stage), f"{count:,}", f"{found.get('n_items', '')}")
        for stage, count in found["rows"].items()
        if _is_number(count)
    )
    overlap = f"items that share {found.get('ngram', 'some')} words in a row"
    return Table(("stage", overlap, "of"), rows)


def _rows(metrics: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """A list of mappings out of the metrics; what a stage put there in another form is left out."""
    value = metrics.get(key)
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _value(row: Mapping[str, Any]) -> str:
    if not _is_number(row.get("value")):
        return ""
    if _is_number(row.get("low")) and _is_number(row.get("high")):
        return f"{row['value']:.4g} ({row['low']:.4g} to {row['high']:.4g})"
    return f"{row['value']:.4g}"


def _percent(value: Any) -> str:
    return f"{value:.1%}" if _is_number(value) else ""
