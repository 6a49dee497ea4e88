"""What the rows of a classifier's training say of the classes.

row:    {"choices": ["arts", "sports"], "probabilities": [0.2, 0.8], "reference_answer": "arts"}
target: [0.2, 0.8] for the classes arts and sports; gold: 0
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from llm_distill.errors import DataError
from llm_distill.methods.abstentions import Abstentions
from llm_distill.methods.class_losses import NO_GOLD
from llm_distill.methods.class_targets import (
    hard_target,
    several_hard_target,
    several_soft_target,
    soft_target,
)
from llm_distill.methods.labels import above, likeliest
from llm_distill.rows.columns import Row
from llm_distill.rows.unusable import UnusableRowError


@dataclass
class Seen:
    """What rows say of the classes.

    Attributes:
        counts: Of each label the rows that count for it.
        choices: All that could have been chosen, with how many rows say so.
        without: Rows with an empty list of labels.
        abstentions: Of a teacher's rows with one label or none.
    """

    counts: Counter[str] = field(default_factory=Counter)
    choices: Counter[str] = field(default_factory=Counter)
    without: int = 0
    abstentions: Abstentions = field(default_factory=Abstentions)


@dataclass(frozen=True)
class ClassRows:
    """How rows are read.

    Attributes:
        soft: towards `choices` and `probabilities`, or else towards `label_column`.
        several: a text may have several labels, or none.
        gold_column: the right label beside soft targets; None: nothing is read.
        needs_gold: a row without it cannot be used.
        each_teacher: the target has each teacher's shares, one teacher after another.
    """

    soft: bool
    several: bool
    label_column: str
    gold_column: str | None = None
    needs_gold: bool = False
    each_teacher: bool = False

    def check(self, features: Any, name: str) -> None:
        """Refuse a column of another kind than several labels have.

        Raises:
            DataError: with `several`, the labels of the stage `name` are text.
        """
        found = features[self.label_column] if self.several and not self.soft else None
        if getattr(found, "dtype", None) in ("string", "large_string"):
            raise DataError(
                f"the column '{self.label_column}' of '{name}' holds text, and several: true reads "
                "lists of labels; leave several out, or name a column of lists (label_column)"
            )

    def seen(self, rows: Iterable[Row]) -> Seen:
        """What they say of the classes, all together."""
        found = Seen()
        for row in rows:
            choices = row.get("choices")
            found.choices.update(choices or ())
            given = self.counted(row)
            found.counts.update(given or ())
            found.without += given == []
            if self.soft and not self.several:
                label, shares = row.get("label"), row["probabilities"]
                found.abstentions.add(row["id"], label, choices, shares)
        return found

    def counted(self, row: Row) -> list[str] | None:
        """The labels that a row counts for; None: it says nothing of them."""
        if not self.soft:
            label = row[self.label_column]
            if self.several:
                return label  # type: ignore[no-any-return]
            return None if label is None or not str(label).strip() else [label]
        choices, probabilities = row["choices"], row["probabilities"]
        if not choices or not probabilities or len(choices) != len(probabilities):
            return None
        if self.several:
            return above(0.5, probabilities, choices)
        return [likeliest(probabilities, choices)[0]]

    def target(self, row: Row, classes: Sequence[str]) -> list[float]:
        """For each class a share.

        Raises:
            UnusableRowError: the row has none, or of something else.
        """
        if self.each_teacher:
            return self._of_each(row, classes)
        if self.soft:
            of_teacher = several_soft_target if self.several else soft_target
            return of_teacher(row["choices"], row["probabilities"], classes)
        of_labels = several_hard_target if self.several else hard_target
        return of_labels(row[self.label_column], classes)

    def _of_each(self, row: Row, classes: Sequence[str]) -> list[float]:
        each, choices = row.get("teacher_probabilities"), row["choices"]
        if each is None or not choices:
            return soft_target(choices, row["probabilities"], classes)
        if len(each) % len(choices):
            raise UnusableRowError("teacher_probabilities is not so many for each of the choices")
        found: list[float] = []
        for start in range(0, len(each), len(choices)):
            own = each[start : start + len(choices)]
            found += soft_target(choices, own, classes) if any(own) else [0.0] * len(classes)
        if not any(found):
            raise UnusableRowError("no probability of a class")
        return found

    def gold(self, row: Row, classes: Sequence[str]) -> dict[str, float]:
        """`gold`: the right label's place, or `NO_GOLD`; nothing where none is read.

        A float, since `token_dataset` takes an integer for a list of tokens.

        Raises:
            UnusableRowError: there is none where one is needed, or it is no class.
        """
        if self.gold_column is None:
            return {}
        label = row[self.gold_column]
        if label is None and not self.needs_gold:
            return {"gold": float(NO_GOLD)}
        if label is None:
            raise UnusableRowError("no gold label")
        if label not in classes:
            raise UnusableRowError("a gold label that is no class")
        return {"gold": float(list(classes).index(label))}
