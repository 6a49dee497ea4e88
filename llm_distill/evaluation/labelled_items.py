"""Rows with labels as items: what each annotator says of each, of columns or of rows by model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from llm_distill.errors import DataError, nearest
from llm_distill.methods.agreement import Label, Level, probability_loyalty
from llm_distill.rows.columns import Row


@dataclass
class Item:
    """The label that each annotator gave to an item, and its probabilities of all labels."""

    labels: dict[str, Any] = field(default_factory=dict)
    probabilities: dict[str, list[float] | None] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelledRows:
    """How rows are read.

    Attributes:
        stage: Whose rows they are, for messages.
        annotators: The columns with the labels; with `label`, values of the column `model`.
        label: The column with the label that a row's `model` gave; None: `annotators` are columns.
        probabilities: The columns with them, one for each annotator; with `label` only one.
        where: Only rows with these values count.
        level: Other than nominal: labels are numbers.
    """

    stage: str
    annotators: Sequence[str]
    label: str | None
    probabilities: Sequence[str]
    where: Mapping[str, Any]
    level: Level

    def chosen(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Those with the values of `where`."""
        for row in rows:
            if all(row[column] == value for column, value in self.where.items()):
                yield row

    def item_of(self, row: Row) -> str:
        """The id of the item that a row is about."""
        in_rows = self.label is not None and row.get("parent_id") is not None
        return str(row["parent_id"] if in_rows else row["id"])

    def items(self, rows: Iterable[Row]) -> dict[str, Item]:
        """By id.

        Raises:
            DataError: no row counts, an annotator has none, or has labelled an item twice.
        """
        items: dict[str, Item] = {}
        there: set[str] = set()
        for key, name, label, probabilities in self._labelled(rows):
            there.add(name)
            if name not in self.annotators:
                continue
            item = items.setdefault(key, Item())
            if name in item.labels:
                raise DataError(
                    f"'{name}' has two rows of item {key} in '{self.stage}'; choose one with "
                    "`where`, such as where: {shots: 0}"
                )
            item.labels[name], item.probabilities[name] = label, probabilities
        if not there:
            raise DataError(f"where: no row of '{self.stage}' has {dict(self.where)}")
        for name in self.annotators:
            if name not in there:
                raise DataError(
                    f"'{self.stage}' has no row with model: {name}; {nearest(name, there)}"
                )
        return items

    def label_of(self, value: Any, key: str) -> Label | None:
        """The value to compare; None if it is missing: null, blank text, NaN.

        Raises:
            DataError: it is no label, or no number where `level` needs one. key: its item's id.
        """
        if value is None or value != value or (isinstance(value, str) and not value.strip()):
            return None
        if not isinstance(value, str | int | float):
            lists = "; by_label: true reads lists" if isinstance(value, list) else ""
            raise DataError(f"item {key}: a label is text or a number, not {value!r}{lists}")
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

    def _labelled(self, rows: Iterable[Row]) -> Iterator[tuple[str, str, Any, list[float] | None]]:
        """Item, annotator, label and probabilities, of each label in the rows."""
        for row in self.chosen(rows):
            key = self.item_of(row)
            if self.label is not None:
                probabilities = row[self.probabilities[0]] if self.probabilities else None
                yield key, str(row["model"]), row[self.label], probabilities
                continue
            for name, column in zip_longest(self.annotators, self.probabilities):
                yield key, name, row[name], row[column] if column is not None else None


def loyalties(items: Mapping[str, Item], teacher: str, student: str) -> list[float]:
    """1 − √JSD of both annotators' probabilities, of each item with those of both.

    Raises:
        DataError: they are no two distributions over the same labels.
    """
    found = []
    for key, item in items.items():
        p, q = item.probabilities.get(teacher), item.probabilities.get(student)
        if p is not None and q is not None:
            try:
                found.append(probability_loyalty(p, q))
            except ValueError as error:
                raise DataError(f"item {key}, {teacher} and {student}: {error}") from error
    return found
