"""How far annotators agree: columns of labels, or the rows of models that took the same exam.

in:  {"id": "t1-teacher-0", "parent_id": "t1", "model": "teacher", "answer": "4"} and
     {"id": "t1-student-0", "parent_id": "t1", "model": "student", "answer": "5"}
out: {"id": "t1", "teacher": "4", "student": "5", "agrees": false}
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from llm_distill.errors import DataError, nearest
from llm_distill.evaluation.agreement_figures import (
    below,
    label_figures,
    line,
    loyalty_figure,
    name_of,
    people_figures,
)
from llm_distill.evaluation.result_rows import FigureName
from llm_distill.evaluation.results import Results
from llm_distill.methods.agreement import Label, Level, labelled, probability_loyalty, tabulate
from llm_distill.rows.columns import Row
from llm_distill.stage import Columns, Context, Rows, RowsOutput, Stage, later_setting


@dataclass
class Item:
    """The label that each annotator gave to an item, and its probabilities of all labels."""

    labels: dict[str, Any] = field(default_factory=dict)
    probabilities: dict[str, list[float] | None] = field(default_factory=dict)


class Agreement(Stage):
    """Agreement between annotators with 95 % intervals, and a gate.

    For every two annotators: `agreement`, the share of equal labels, and Cohen's `kappa`, over the
    items that both labelled. For all together: Krippendorff's `alpha`. For the first, as a teacher,
    with each other, as its student: `label_loyalty`, where a missing label is a miss, and, with
    probabilities, `probability_loyalty` (1 − √JSD). Labels are compared as they are written.
    With `people`: `gap_to_people`, the teacher's mean alpha with each of them less theirs with each
    other, and the same by label. With `minimum` the run fails if a figure is lower or undefined,
    and lists all figures.
    """

    former_settings: ClassVar[Mapping[str, Any]] = {
        "annotator_column": "model",
        "item_column": "parent_id",
    }
    stage: Literal["agreement"]
    rows: Rows = Field(description="the stage whose rows have the labels")
    annotators: tuple[str, ...] = Field(
        min_length=2,
        description="the columns with the labels; with `label`, values of the column `model`. A "
        "teacher comes first",
    )
    label: str | None = Field(
        None,
        description="the column with the label, if each row has the label that its `model` gave "
        "to its `parent_id`",
    )
    where: dict[str, str | bool | int | float] = Field(
        {}, description="only rows with these values, such as shots: 0"
    )
    probabilities: tuple[str, ...] = Field(
        (),
        description="columns with the probabilities of an item's labels, one per annotator; with "
        "`label`, the single column with them",
    )
    people: tuple[str, ...] = later_setting(
        (),
        "annotators that are people, two or more: `gap_to_people` is how much less the first, a "
        "teacher, agrees with them than they with each other",
    )
    level: Level = Field(
        "nominal", description="how alpha weighs differences; ordinal, interval need numbers"
    )
    minimum: dict[FigureName, float] = Field(
        {}, description="the lowest figures with which the run continues, such as kappa: 0.6"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len({*self.annotators, "id", "agrees"}) < len(self.annotators) + 2:
            raise ValueError("annotators: each can be named once, and not `id` or `agrees`")
        wanted = len(self.annotators) if self.label is None else 1
        if self.probabilities and len(self.probabilities) != wanted:
            raise ValueError(
                f"probabilities: {len(self.probabilities)} columns, but {wanted} needed"
            )
        if "probability_loyalty" in self.minimum and not self.probabilities:
            raise ValueError("minimum: probability_loyalty needs `probabilities`")
        others = self.annotators[1:]
        if self.people and (len({*self.people}) < 2 or not {*self.people} <= {*others}):
            raise ValueError(
                f"people: two or more of {', '.join(others)}, each once; the first annotator is "
                "whom they are compared with"
            )
        if "gap_to_people" in self.minimum and not self.people:
            raise ValueError("minimum: gap_to_people needs `people`")
        return self

    def required_columns(self) -> dict[str, set[str]]:
        own = {"id", *self.annotators}
        labels = own if self.label is None else {self.label, "model", "parent_id"}
        return {self.rows: {*labels, *self.probabilities, *self.where}}

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        return frozenset({"id", *self.annotators, "agrees"})

    def run(self, context: Context) -> RowsOutput:
        from datasets import Features, Value

        theirs = context.rows(self.rows).features
        labels = {name: theirs[self.label or name] for name in self.annotators}
        features = Features({"id": Value("string"), **labels, "agrees": Value("bool")})
        return RowsOutput(self._rows(context), features)

    def _rows(self, context: Context) -> Iterator[Row]:
        items = self._items(context)
        labels: dict[str, list[Label | None]] = {name: [] for name in self.annotators}
        for key, item in items.items():
            given = [self._label(item.labels.get(name), key) for name in self.annotators]
            for name, label in zip(self.annotators, given, strict=True):
                labels[name].append(label)
            different = {label for label in given if label is not None}
            yield {
                "id": key,
                **{name: item.labels.get(name) for name in self.annotators},
                "agrees": len(different) == 1 if len(given) - given.count(None) > 1 else None,
            }
        self._measure(context, items, labels)

    def _measure(
        self, context: Context, items: Mapping[str, Item], labels: dict[str, list[Label | None]]
    ) -> None:
        n = labelled(tabulate(*labels.values()))
        if n < 2:
            raise DataError(
                f"{n} of {len(items)} items of '{self.rows}' have labels of two annotators; "
                "at least 2 are needed"
            )
        figures = list(label_figures(labels, self.level))
        teacher, *students = self.annotators
        for student in students if self.probabilities else ():
            figures.append(loyalty_figure(teacher, student, _loyalties(items, teacher, student)))
        by_label = None
        if self.people:
            gap, by_label = people_figures(labels, self.people, self.level)
            figures.append(gap)
        missing = {name: given.count(None) for name, given in labels.items()}
        own = () if by_label is None else (by_label,)
        measured = Results(agreement=tuple(figures), own=own).to_metrics()
        context.metrics.update(measured, n_items=len(items), missing=missing)
        for figure in figures:
            if figure.value is None:
                why = "all labels are the same" if figure.n else "no item has both"
                context.warn(f"{name_of(figure)} is undefined: {why}")
        too_low = below(figures, self.minimum)
        if too_low:  # lists all figures, since nothing of the stage is kept
            listed = "\n".join(f"  {line(figure)}" for figure in figures)
            raise DataError(f"{'; '.join(too_low)}; the figures are\n{listed}")

    def _items(self, context: Context) -> dict[str, Item]:
        items: dict[str, Item] = {}
        there: set[str] = set()
        for key, name, label, probabilities in self._labelled(context):
            there.add(name)
            if name not in self.annotators:
                continue
            item = items.setdefault(key, Item())
            if name in item.labels:
                raise DataError(
                    f"'{name}' has two rows of item {key} in '{self.rows}'; choose one with "
                    "`where`, such as where: {shots: 0}"
                )
            item.labels[name], item.probabilities[name] = label, probabilities
        if not there:
            raise DataError(f"where: no row of '{self.rows}' has {self.where}")
        for name in self.annotators:
            if name not in there:
                raise DataError(
                    f"'{self.rows}' has no row with model: {name}; {nearest(name, there)}"
                )
        return items

    def _labelled(self, context: Context) -> Iterator[tuple[str, str, Any, list[float] | None]]:
        """Item, annotator, label and probabilities, of each label in the rows."""
        for row in context.each_row(self.rows):
            if any(row[column] != value for column, value in self.where.items()):
                continue
            if self.label is not None:
                probabilities = row[self.probabilities[0]] if self.probabilities else None
                yield str(row["parent_id"]), str(row["model"]), row[self.label], probabilities
                continue
            for name, column in zip_longest(self.annotators, self.probabilities):
                yield row["id"], name, row[name], row[column] if column is not None else None

    def _label(self, value: Any, key: str) -> Label | None:
        """The value to compare; None if it is missing: null, blank text, NaN."""
        if value is None or value != value or (isinstance(value, str) and not value.strip()):
            return None
        if not isinstance(value, str | int | float):
            raise DataError(f"item {key}: a label is text or a number, not {value!r}")
        if self.level == "nominal":
            return value
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise DataError(
                f"item {key}: the label {value!r} is not a number, as level: {self.level} needs; "
                "level: nominal takes any"
            )
        return number


def _loyalties(items: Mapping[str, Item], teacher: str, student: str) -> list[float]:
    """The loyalty of each item for which both have probabilities."""
    found = []
    for key, item in items.items():
        p, q = item.probabilities.get(teacher), item.probabilities.get(student)
        if p is not None and q is not None:
            try:
                found.append(probability_loyalty(p, q))
            except ValueError as error:
                raise DataError(f"item {key}, {teacher} and {student}: {error}") from error
    return found
