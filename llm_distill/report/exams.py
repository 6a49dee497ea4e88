"""An evaluation in the report: its table of results, its charts, and its contamination."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from llm_distill.evaluation.result_rows import ExamRow, Figure, percent
from llm_distill.evaluation.results import Breakdown, Results
from llm_distill.report.charts import Drawing, Shares, Table

MOST_GROUPS = 30
UNCOUNTED = ExamRow(model="", accuracy=0.0)
NAMES = ("model", "task", "metric", "shots", "filter")


def results_table(measured: Results) -> Table:
    """The columns that have values. Counts that are 0 stay: nothing was unreadable."""
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
    shown.append(("form of the answers", [row.written_forms for row in exam]))
    passes = [row.pass_at or {} for row in exam]
    for k in dict.fromkeys(k for at in passes for k in at):
        shown.append((f"pass@{k}", [_percent(at.get(k)) for at in passes]))
    shown.append(("majority", [_percent(row.majority) for row in exam]))
    columns, cells_by_column = zip(*(each for each in shown if any(each[1])), strict=True)
    return Table(columns, tuple(zip(*cells_by_column, strict=True)), len(names))


def differences_table(measured: Results) -> Table:
    """Paired over the same items; with the p-value where it was tested."""
    found = measured.differences
    tested = any(row.p_value is not None for row in found)
    rows = []
    for row in found:
        p_value = () if not tested else ("" if row.p_value is None else f"{row.p_value:.3g}",)
        shots = "" if row.shots is None else str(row.shots)
        rows.append((row.model, row.baseline, shots, str(row.as_figure), *p_value))
    titles = ("model", "against", "shots", "points (95 % interval)", *(("p",) if tested else ()))
    return Table(titles, tuple(rows), 3)


def accuracies(measured: Results) -> dict[tuple[str, int | None], float]:
    """(model, shots) to the accuracy over all items."""
    return {(row.model, row.shots): row.accuracy for row in measured.exam}


def exam_charts(measured: Results) -> Iterator[Drawing]:
    """Accuracy by number of worked examples, and by each column that it was broken down by."""
    if measured.exam:
        shots = [(row, "" if row.shots is None else f"{row.shots}-shot") for row in measured.exam]
        chart = Shares("shots", _by_group(shots))
        yield Drawing("Accuracy, with 95 % intervals", chart)
    for by in measured.by:
        yield from _broken_down(by)


def _broken_down(by: Breakdown) -> Iterator[Drawing]:
    for shots in dict.fromkeys(row.shots for row in by.rows):
        rows = [(row, str(row.group)) for row in by.rows if row.shots == shots]
        sizes = {name: row.n or 0 for row, name in rows}
        largest = sorted(sizes, key=lambda name: -sizes[name])[:MOST_GROUPS]
        drawn = _by_group((row, name) for row, name in rows if name in largest)
        left = len(sizes) - len(drawn)
        note = f"The {MOST_GROUPS} with the most items; {left} more are not drawn." if left else ""
        suffix = "" if shots is None else f", {shots}-shot"
        yield Drawing(f"Accuracy by {by.column}{suffix}", Shares(by.column, drawn), note)


def _by_group(rows: Iterable[tuple[ExamRow, str]]) -> dict[str, dict[str, Figure]]:
    groups: dict[str, dict[str, Figure]] = {}
    for row, name in rows:
        groups.setdefault(name, {})[row.model] = row.as_figure
    return groups


def contamination_table(measured: Results) -> Table | None:
    """Items of the exam that are found in the rows of stages, if they were looked for."""
    found = measured.contamination
    if found is None:
        return None
    of = "" if found.n_items is None else str(found.n_items)
    rows = tuple((stage, f"{count:,}", of) for stage, count in found.rows.items())
    # Manifests of before name no comparison: it was always n-grams.
    compared = found.compared or {"": f"{found.ngram or 'some'} words in a row"}
    how = dict.fromkeys(compared.values())
    return Table(("stage", f"items found by {', or '.join(how)}", "of"), rows)


def _percent(value: float | None) -> str:
    return "" if value is None else percent(value)
