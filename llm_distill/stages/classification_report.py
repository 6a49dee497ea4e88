"""How well labels agree with the right ones: accuracy, F1, confusions and calibration.

in:  {"id": "n1", "label": "sports", "reference_answer": "arts", "confidence": 0.8} of `teacher`,
     {"id": "n1", "label": "arts", "reference_answer": "arts", "confidence": 0.9} of `student`
out: {"id": "n1-teacher", "parent_id": "n1", "model": "teacher", "shots": 0, "answer": "sports",
      "reference_answer": "arts", "is_correct": false, "choices": null, "probabilities": null},
     {"id": "n1-student", "parent_id": "n1", "model": "student", "shots": 0, …}
with `several: true`
in:  {"id": "n1", "labels": ["arts"], "reference_labels": ["arts", "sports"]} of `student`
out: {"id": "n1-student", …, "answer": "arts", "reference_answer": "arts; sports", …}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from llm_distill.errors import DataError, quoted
from llm_distill.evaluation.label_figures import group_tables, label_tables
from llm_distill.evaluation.label_set_figures import LabelSet, label_set_tables, written
from llm_distill.evaluation.result_rows import Difference, ExamRow
from llm_distill.evaluation.results import Results, group_name
from llm_distill.methods.statistics import mcnemar, paired_bootstrap, wilson_interval
from llm_distill.rows.columns import Row, features
from llm_distill.rows.label_lists import said_alike
from llm_distill.stage import (
    Columns,
    Context,
    Rows,
    RowsOutput,
    Stage,
    Values,
    later_setting,
)

COLUMNS = (
    "id", "parent_id", "model", "shots", "answer", "reference_answer", "is_correct", "choices",
    "probabilities",
)  # fmt: skip
SHOTS = 0
"""A classifier is shown no examples; with this the rows are an exam's, for sweeps."""


Label = str | LabelSet
"""Of a text: its label, or with `several` all of them."""


@dataclass
class _Labels:
    """Of one stage: by item its label, and how sure it was where that is known."""

    given: dict[str, Label | None] = field(default_factory=dict)
    sure: dict[str, float] = field(default_factory=dict)
    likely: dict[str, tuple[list[str], list[float]]] = field(default_factory=dict)


class ClassificationReport(Stage):
    """Compares the labels of one stage or several with the right ones, item by item.

    Accuracy with Wilson's interval, macro-F1 over the classes that occur (bootstrap over items),
    paired differences from the first stage, F1 and confusions by class, and, where there is a
    `confidence`, the expected calibration error in ten bins with an interval. A null label is
    wrong. The label that is most frequent among the right ones is shown as a baseline, by accuracy
    and macro-F1. The report draws confusions, of up to 60 labels, and calibration.

    With `by`, accuracies and differences by the first stage's values of a column.

    With `several`, where a text has any number of labels: subset accuracy (all of a text's labels,
    and no other), micro- and macro-F1 and F1 by label; neither confusions nor calibration, and
    `probabilities` are null, as they are no distribution.
    """

    version: ClassVar[int] = 3

    stage: Literal["classification_report"]
    rows: list[Rows] = Field(
        min_length=1, description="the stages with labels of the same items; the first is compared"
    )
    label_column: str = Field(
        "label", min_length=1, description="the column with the label; with several `labels`, lists"
    )
    reference_column: str = Field(
        "reference_answer",
        min_length=1,
        description="the column with the right label; with several `reference_labels`, lists",
    )
    several: bool = later_setting(False, "a text may have several labels, or none")
    by: list[str] = later_setting([], "columns; accuracies for each of their values")

    @model_validator(mode="before")
    @classmethod
    def _lists_of_labels(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("several") is True:
            return {"label_column": "labels", "reference_column": "reference_labels", **given}
        return given

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.rows)) < len(self.rows):
            raise ValueError("rows: each stage can be named once")
        return self

    def required_columns(self) -> dict[str, set[str]]:
        own = {"id", self.label_column, self.reference_column}
        needed = dict.fromkeys(self.rows, own)
        return {**needed, self.rows[0]: own | {*self.by}}

    def read_as_text(self) -> dict[str, set[str]]:
        labels = set() if self.several else {self.label_column, self.reference_column}
        return dict.fromkeys(self.rows, labels)

    def remedy(self, column: str) -> str | None:
        if column != self.label_column:
            return None
        if self.several:
            return "label and classify give it with several: true; or leave several out"
        return "label and classify give it; or name another (label_column)"

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        return frozenset(COLUMNS)

    def output_values(self, inputs: Mapping[str, Values]) -> Values:
        return {"model": frozenset(self.rows)}

    def run(self, context: Context) -> RowsOutput:
        return RowsOutput(self._rows(context), features(COLUMNS))

    def _rows(self, context: Context) -> Iterator[Row]:
        references: dict[str, Label] = {}
        groups: dict[str, dict[str, str]] = {}
        of: dict[str, _Labels] = {}
        for name in self.rows:
            of[name] = self._read(context, name, references, groups)
        if not references:
            raise DataError(f"no row of '{self.rows[0]}' has a {self.reference_column}")
        if self.several and not any(references.values()):
            raise DataError(f"no row of '{self.rows[0]}' has a label in {self.reference_column}")
        self._warn_of_spelling(context, references, of)
        context.metrics.update(_results(references, of, self._by(groups)).to_metrics())
        for name, labels in of.items():
            for item, right in references.items():
                given = labels.given[item]
                choices, probabilities = labels.likely.get(item, (None, None))
                yield {
                    "id": f"{item}-{name}",
                    "parent_id": item,
                    "model": name,
                    "shots": SHOTS,
                    "answer": _text(given),
                    "reference_answer": _text(right),
                    "is_correct": given == right,
                    "choices": choices,
                    "probabilities": probabilities,
                }

    def _warn_of_spelling(
        self, context: Context, references: Mapping[str, Label], of: Mapping[str, _Labels]
    ) -> None:
        all_labels: set[str] = set()
        for given in (references, *(labels.given for labels in of.values())):
            for label in given.values():
                all_labels.update([label] if isinstance(label, str) else label or ())
        if (alike := said_alike(all_labels)) is not None:
            context.warn(alike)

    def _by(self, groups: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
        """By column, the group of each item, in the order of the items."""
        return {column: [each[column] for each in groups.values()] for column in self.by}

    def _read(
        self,
        context: Context,
        name: str,
        references: dict[str, Label],
        groups: dict[str, dict[str, str]],
    ) -> _Labels:
        """references, groups: filled by the first stage; the others' labels must be the same."""
        found, is_first = _Labels(), name == self.rows[0]
        for row in context.each_row(name):
            item, right = row["id"], self._label(row, self.reference_column, name)
            if right is None:
                context.drop(f"no {self.reference_column}")
                continue
            if is_first:
                references[item] = right
                groups[item] = {column: group_name(row[column]) for column in self.by}
            elif item not in references:
                raise DataError(
                    f"'{self.rows[0]}' has no row {item} with a {self.reference_column}, which "
                    f"'{name}' has; labels are compared on the same items"
                )
            elif references[item] != right:
                raise DataError(
                    f"row {item} of '{name}' has the right label {_text(right)!r}, and "
                    f"{_text(references[item])!r} in '{self.rows[0]}'; labels are compared on "
                    "the same items"
                )
            found.given[item] = self._label(row, self.label_column, name)
            if not self.several and row.get("confidence") is not None:
                found.sure[item] = _share(row["confidence"], item, name)
            known = row.get("choices") is not None and row.get("probabilities") is not None
            if known and not self.several:  # else they are of one yes or no each
                found.likely[item] = row["choices"], row["probabilities"]
        missing = [item for item in references if item not in found.given]
        if missing:
            raise DataError(
                f"'{name}' has no row {missing[0]}, which '{self.rows[0]}' has ({len(missing)} "
                "such rows); labels are compared on the same items"
            )
        return found

    def _label(self, row: Row, column: str, name: str) -> Label | None:
        value: str | list[str] | None = row[column]
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        if not self.several:
            return value  # type: ignore[return-value]  # text, as the runner has checked
        if isinstance(value, str):
            raise DataError(
                f"row {row['id']} of '{name}': {column} is the text {value!r}, and several: true "
                "reads lists of labels; leave several out, or name a column of lists"
            )
        return LabelSet(value)


def _share(confidence: Any, item: str, name: str) -> float:
    """Raises DataError: it is none."""
    if isinstance(confidence, int | float) and 0 <= confidence <= 1:
        return confidence
    raise DataError(
        f"row {item} of '{name}': confidence is {quoted(confidence)}, and a share within 0 to 1 is "
        "needed (97 % is 0.97) to compare it with how often labels are right; write null where it "
        "is not known"
    )


def _text(label: Label | None) -> str | None:
    return written(label) if isinstance(label, frozenset) else label


def _results(
    references: Mapping[str, Label], of: Mapping[str, _Labels], by: Mapping[str, list[str]]
) -> Results:
    right: list[Any] = list(references.values())
    given: dict[str, list[Any]] = {
        name: [labels.given[item] for item in references] for name, labels in of.items()
    }
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
    if isinstance(right[0], frozenset):
        tables = label_set_tables(right, given)
    else:
        tables = label_tables(right, given, {n: _sure(n, of, references, hits) for n in of})
    grouped = [
        table for column, groups in by.items() for table in group_tables(column, groups, hits)
    ]
    return Results(exam=tuple(exam), differences=_differences(hits), own=(*tables, *grouped))


def _sure(
    name: str,
    of: Mapping[str, _Labels],
    references: Mapping[str, Label],
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
