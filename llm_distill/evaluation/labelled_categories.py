"""Kappas of each category of labelled items: of a column, or each label as one of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_distill.errors import DataError
from llm_distill.evaluation.labelled_items import Item, LabelledRows
from llm_distill.methods.category_gate import CategoryKappas, category_kappas, one_against_rest
from llm_distill.rows.columns import Row


@dataclass(frozen=True)
class LabelledCategories:
    """How items of a stage become categories of yes and no.

    Attributes:
        read: How its rows are read.
        model: The annotator that is compared with people.
        people: The annotators that are people, two or more.
        positive: The label that says yes, whatever its case; where each label is a category it
            is not read.
    """

    read: LabelledRows
    model: str
    people: Sequence[str]
    positive: str

    @property
    def names(self) -> tuple[str, ...]:
        """The annotators whose labels an item needs, the model first."""
        return self.model, *self.people

    def of_labels(self, items: Mapping[str, Item]) -> tuple[dict[str, CategoryKappas], int]:
        """Of each label, over the items that all have labelled, and how many items are not.

        Raises:
            DataError: none is labelled by all.
        """
        said = [
            [self._labels_of(item.labels.get(name), key) for name in self.names]
            for key, item in items.items()
        ]
        whole = [given for given in said if None not in given]
        by_annotator = [
            [each for each in of if each is not None] for of in zip(*whole, strict=True)
        ]
        found = one_against_rest(by_annotator)
        if not found:
            raise DataError(
                f"no item of '{self.read.stage}' has labels of each of {', '.join(self.names)}"
            )
        kappas = {
            label: category_kappas(model, people) for label, (model, *people) in found.items()
        }
        return kappas, len(said) - len(whole)

    def of_column(
        self, items: Mapping[str, Item], category_of: Mapping[str, str]
    ) -> tuple[dict[str, CategoryKappas], int]:
        """Of each category, over the items that all have labelled, and how many items are not.

        Args:
            items: By id.
            category_of: The category of each item: `categories`.

        Raises:
            DataError: a category has no item that all have labelled, or labels of more than two
                kinds; or nobody says yes to any.
        """
        by_category: dict[str, list[Item]] = {}
        for key, item in items.items():
            by_category.setdefault(category_of[key], []).append(item)
        found, n_left_out = {}, 0
        for category, of_it in by_category.items():
            whole = self._whole(category, of_it)
            n_left_out += len(of_it) - len(whole)
            model, *people = zip(*whole, strict=True)
            found[category] = category_kappas(model, people)
        if not any(kappas.n_positive for kappas in found.values()):
            raise DataError(
                f"no item of any category has the label '{self.positive}' by one of "
                f"{', '.join(self.people)}; set `positive` to what says yes"
            )
        return found, n_left_out

    def _labels_of(self, value: Any, key: str) -> list[str] | None:
        """The labels of a cell: one, or a list; None if it is missing."""
        if isinstance(value, list):
            return [str(label) for label in value if label is not None]
        label = self.read.label_of(value, key)
        return None if label is None else [str(label)]

    def _whole(self, category: str, items: Sequence[Item]) -> list[list[bool]]:
        """Whether each annotator says yes, of each item that all have labelled."""
        labels = [
            [self.read.label_of(item.labels.get(name), category) for name in self.names]
            for item in items
        ]
        said = [
            [str(label).strip().casefold() for label in given]
            for given in labels
            if None not in given
        ]
        yes = self.positive.strip().casefold()
        different = {label for given in said for label in given}
        if len(different - {yes}) > 1:
            raise DataError(
                f"category '{category}' has the labels {', '.join(sorted(different))}: with `by` "
                f"there are two, and '{self.positive}' is yes"
            )
        if not said:
            raise DataError(f"no item of category '{category}' has a label of each annotator")
        return [[label == yes for label in given] for given in said]


def categories(read: LabelledRows, rows: Iterable[Row], by: str) -> dict[str, str]:
    """The category of each item, from the column `by`.

    Raises:
        DataError: a row has none, or an item has two.
    """
    found: dict[str, str] = {}
    for row in read.chosen(rows):
        key = read.item_of(row)
        if row[by] is None or not str(row[by]).strip():
            raise DataError(f"row {row['id']} of '{read.stage}' has no '{by}'")
        category = str(row[by])
        if found.setdefault(key, category) != category:
            raise DataError(
                f"item {key} of '{read.stage}' is of '{found[key]}' and of '{category}'; an "
                "item is one text with one category, so its id has to name both"
            )
    return found


def chosen_items(read: LabelledRows, rows: Iterable[Row], chosen_on: Iterable[Row]) -> set[str]:
    """The items among `rows` on which a prompt was chosen, which are named by id or by parent."""
    chosen = {read.item_of(row) for row in chosen_on}
    return {
        read.item_of(row)
        for row in read.chosen(rows)
        if not chosen.isdisjoint((read.item_of(row), str(row.get("parent_id"))))
    }
