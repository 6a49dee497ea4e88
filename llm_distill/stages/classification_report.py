"""How well labels agree with the right ones: accuracy, F1, confusions and calibration.

in:  {"id": "n1", "label": "sports", "reference_answer": "arts", "confidence": 0.8} of `teacher`,
     {"id": "n1", "label": "arts", "reference_answer": "arts", "confidence": 0.9} of `student`
out: {"id": "n1-teacher", "parent_id": "n1", "model": "teacher", "shots": 0, "answer": "sports",
      "reference_answer": "arts", "is_correct": false, "choices": null, "probabilities": null},
     {"id": "n1-student", "parent_id": "n1", "model": "student", "shots": 0, …}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from llm_distill.errors import DataError
from llm_distill.evaluation.result_rows import Difference, ExamRow, Figure
from llm_distill.evaluation.results import FigureTable, Results
from llm_distill.methods.classification import (
    by_class,
    calibration,
    confusions,
    expected_calibration_error,
    macro_f1,
    macro_f1_difference,
)
from llm_distill.methods.statistics import mcnemar, paired_bootstrap, wilson_interval
from llm_distill.rows.columns import Row, features
from llm_distill.stage import Columns, Context, Rows, RowsOutput, Stage

COLUMNS = (
    "id", "parent_id", "model", "shots", "answer", "reference_answer", "is_correct", "choices",
    "probabilities",
)  # fmt: skip
MOST_CLASSES = 30
"""More are no table to look at; F1 by class is left out of the terminal, confusions everywhere."""
NOTHING = "(none)"
SHOTS = 0
"""A classifier is shown no examples; with this the rows are an exam's, for sweeps."""


@dataclass
class _Labels:
    """Of one stage: by item its label, and how sure it was where that is known."""

    given: dict[str, str | None] = field(default_factory=dict)
    sure: dict[str, float] = field(default_factory=dict)
    likely: dict[str, tuple[list[str], list[float]]] = field(default_factory=dict)


class ClassificationReport(Stage):
    """Compares the labels of one stage or several with the right ones, item by item.

    Accuracy with Wilson's interval, macro-F1 over the classes that occur (bootstrap over items),
    paired differences from the first stage, F1 and confusions by class, and, where there is a
    `confidence`, the expected calibration error in ten bins. A null label is wrong. The label that
    is most frequent among the right ones is shown as a baseline.
    """

    version: ClassVar[int] = 2

    stage: Literal["classification_report"]
    rows: list[Rows] = Field(
        min_length=1, description="the stages with labels of the same items; the first is compared"
    )
    label_column: str = Field("label", min_length=1, description="the column with the label")
    reference_column: str = Field(
        "reference_answer", min_length=1, description="the column with the right label"
    )

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.rows)) < len(self.rows):
            raise ValueError("rows: each stage can be named once")
        return self

    def required_columns(self) -> dict[str, set[str]]:
        return {name: {"id", self.label_column, self.reference_column} for name in self.rows}

    def read_as_text(self) -> dict[str, set[str]]:
        return {name: {self.label_column, self.reference_column} for name in self.rows}

    def remedy(self, column: str) -> str | None:
        if column != self.label_column:
            return None
        return "label and classify give it; or name another (label_column)"

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        return frozenset(COLUMNS)

    def run(self, context: Context) -> RowsOutput:
        return RowsOutput(self._rows(context), features(COLUMNS))

    def _rows(self, context: Context) -> Iterator[Row]:
        references: dict[str, str] = {}
        of: dict[str, _Labels] = {}
        for name in self.rows:
            of[name] = self._read(context, name, references)
        if not references:
            raise DataError(f"no row of '{self.rows[0]}' has a {self.reference_column}")
        context.metrics.update(_results(references, of).to_metrics())
        for name, labels in of.items():
            for item, right in references.items():
                given = labels.given[item]
                choices, probabilities = labels.likely.get(item, (None, None))
                yield {
                    "id": f"{item}-{name}",
                    "parent_id": item,
                    "model": name,
                    "shots": SHOTS,
                    "answer": given,
                    "reference_answer": right,
                    "is_correct": given == right,
                    "choices": choices,
                    "probabilities": probabilities,
                }

    def _read(self, context: Context, name: str, references: dict[str, str]) -> _Labels:
        """references: filled by the first stage; the others must have the same."""
        found, is_first = _Labels(), name == self.rows[0]
        for row in context.each_row(name):
            item, right = row["id"], row[self.reference_column]
            if right is None:
                context.drop(f"no {self.reference_column}")
                continue
            if is_first:
                references[item] = right
            elif references.get(item) != right:
                raise DataError(
                    f"row {item} of '{name}' has the right label {right!r}, and "
                    f"{references.get(item)!r} in '{self.rows[0]}'; labels are compared on the "
                    "same items"
                )
            found.given[item] = row[self.label_column]
            if row.get("confidence") is not None:
                found.sure[item] = row["confidence"]
            if row.get("choices") is not None and row.get("probabilities") is not None:
                found.likely[item] = row["choices"], row["probabilities"]
        missing = [item for item in references if item not in found.given]
        if missing:
            raise DataError(
                f"'{name}' has no row {missing[0]}, which '{self.rows[0]}' has ({len(missing)} "
                "such rows); labels are compared on the same items"
            )
        return found


def _results(references: Mapping[str, str], of: Mapping[str, _Labels]) -> Results:
    right = list(references.values())
    given = {name: [labels.given[item] for item in references] for name, labels in of.items()}
    hits = {
        name: [s == r for s, r in zip(said, right, strict=True)] for name, said in given.items()
    }
    exam = []
    for name, said in given.items():
        found = wilson_interval(sum(hits[name]), len(right))
        unlabelled = sum(label is None for label in said)
        row = ExamRow(
            model=name,
            shots=SHOTS,
            accuracy=found.value,
            low=found.low,
            high=found.high,
            n=len(right),
            parse_failures=unlabelled,
        )
        exam.append(row)
    return Results(
        exam=tuple(exam),
        differences=_differences(hits),
        own=tuple(_tables(right, given, {n: _sure(n, of, references, hits) for n in of})),
    )


def _sure(
    name: str,
    of: Mapping[str, _Labels],
    references: Mapping[str, str],
    hits: Mapping[str, list[bool]],
) -> list[tuple[float, bool]]:
    sure = of[name].sure
    pairs = zip(references, hits[name], strict=True)
    return [(sure[item], hit) for item, hit in pairs if item in sure]


def _differences(hits: Mapping[str, list[bool]]) -> tuple[Difference, ...]:
    first, *others = hits
    found = []
    for name in others:
        change = paired_bootstrap(hits[first], hits[name])
        found.append(
            Difference(
                model=name,
                baseline=first,
                shots=SHOTS,
                difference=change.value,
                low=change.low,
                high=change.high,
                n=len(hits[name]),
                p_value=mcnemar(hits[first], hits[name]),
            )
        )
    return tuple(found)


def _tables(
    right: list[str],
    given: Mapping[str, list[str | None]],
    sure: Mapping[str, list[tuple[float, bool]]],
) -> Iterator[FigureTable]:
    yield from _macro(right, given)
    for name, said in given.items():
        yield _classes(name, right, said)
        if len({*right}) <= MOST_CLASSES:
            yield _confused(name, right, said)
    if any(sure.values()):
        yield from _calibrated({name: pairs for name, pairs in sure.items() if pairs})


def _macro(right: list[str], given: Mapping[str, list[str | None]]) -> Iterator[FigureTable]:
    first, n = next(iter(given)), len(right)
    most, _ = min(Counter(right).items(), key=lambda each: (-each[1], each[0]))
    constant: list[str | None] = [most] * n
    figures, changes = [], []
    for name, said in {f"always {most}": constant, **given}.items():
        found = macro_f1(right, said)
        figures.append(Figure({"model": name}, found.value, found.low, found.high, n, "share"))
        if name in given and name != first:
            found = macro_f1_difference(right, given[first], said)
            label = {"difference": f"{name} − {first}"}
            changes.append(Figure(label, found.value, found.low, found.high, n, "points"))
    yield FigureTable("macro-F1", tuple(figures))
    if changes:
        yield FigureTable("macro-F1, paired", tuple(changes))


def _classes(name: str, right: list[str], said: list[str | None]) -> FigureTable:
    figures = []
    for each in by_class(right, said):
        measures = {"precision": each.precision, "recall": each.recall, "F1": each.f1}
        label = {"label": each.label}
        figures += [
            Figure({**label, "of": measure}, value, n=each.n, kind="share")
            for measure, value in measures.items()
            if value is not None
        ]
        figures.append(Figure({**label, "of": "items"}, each.n))
    many = len({*right}) > MOST_CLASSES
    return FigureTable(f"{name}, by label", tuple(figures), is_detail=many, across="of")


def _confused(name: str, right: list[str], said: list[str | None]) -> FigureTable:
    """The rows are the right labels, the columns what was given."""
    counts = confusions(right, said)
    given = sorted({label for label in said if label is not None})
    columns = [*given, *([None] if None in said else [])]
    figures = [
        Figure({"right label": label, "given": other or NOTHING}, counts[label, other])
        for label in sorted({*right})
        for other in columns
    ]
    return FigureTable(f"{name}, confusions", tuple(figures), is_detail=True, across="given")


def _calibrated(sure: Mapping[str, list[tuple[float, bool]]]) -> Iterator[FigureTable]:
    errors, lines = [], []
    for name, pairs in sure.items():
        bins = calibration([p for p, _ in pairs], [hit for _, hit in pairs])
        error = expected_calibration_error(bins)
        errors.append(Figure({"model": name}, error, n=len(pairs), kind="share"))
        for each in bins:
            at = {"model": name, "confidence": str(round(100 * (each.low + each.high) / 2))}
            found = wilson_interval(each.right, each.n)
            ends = found.low, found.high
            lines += [
                Figure({**at, "of": "mean confidence"}, each.confidence, kind="share"),
                Figure({**at, "of": "right"}, found.value, *ends, each.n, "share"),
                Figure({**at, "of": "items"}, each.n),
            ]
    yield FigureTable("expected calibration error", tuple(errors))
    yield FigureTable(
        "calibration, by confidence in %",
        tuple(lines),
        is_detail=True,
        across="of",
        over="confidence",
        drawn=("right",),
    )
