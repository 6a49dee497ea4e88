"""What a teacher says of texts, by id and by the names of labels; several on the same texts. Pure.

A row is `{"id", "label", "choices", "probabilities"}`, of which the last two may be missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llm_distill.errors import DataError, quoted
from llm_distill.methods.abstentions import Abstentions
from llm_distill.methods.class_targets import hard_target, soft_target
from llm_distill.rows.columns import Row
from llm_distill.rows.unusable import UnusableRowError

TEXT = "text"


@dataclass
class TeacherLabels:
    """Of one teacher.

    Attributes:
        stage: Where they come from, for messages.
        rows: By id its label, choices and probabilities.
        names: All labels that it knows, in the order in which they come.
        uncertain: The id of a row with a label and no probabilities; None where there is none.
        malformed: Rows whose probabilities are none, by why.
        abstentions: How it abstains.
    """

    stage: str
    rows: dict[str, tuple[str | None, Sequence[str], Sequence[float] | None]]
    names: dict[str, None] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    uncertain: str | None = None
    malformed: Counter[str] = field(default_factory=Counter)
    abstentions: Abstentions = field(default_factory=Abstentions)

    @classmethod
    def read(cls, stage: str, rows: Iterable[Row]) -> TeacherLabels:
        found = cls(stage, {})
        for row in rows:
            label, choices = row["label"], row.get("choices") or ()
            probabilities = row.get("probabilities")
            found.rows[row["id"]] = label, choices, probabilities
            found.abstentions.add(row["id"], label, choices, probabilities)
            if probabilities is not None:
                try:
                    soft_target(choices, probabilities, choices)
                except UnusableRowError as error:
                    found.malformed[str(error)] += 1
            found.names.update(dict.fromkeys(choices))
            if label is not None:
                found.names.setdefault(label)
                if probabilities is None and found.uncertain is None:
                    found.uncertain = row["id"]
            if isinstance(row.get(TEXT), str):
                found.texts[row["id"]] = row[TEXT]
        return found

    def of(self, identity: str, names: Sequence[str]) -> list[float] | None:
        """Its probability of each name, which add up to 1; None where it gave no label of them.

        A label alone has probability 1.
        """
        label, choices, probabilities = self.rows.get(identity, (None, (), None))
        try:
            if probabilities is not None:
                return soft_target(choices, probabilities, names)
            return hard_target(label, names)
        except UnusableRowError:
            return None


def check_same_rows(first: TeacherLabels, other: TeacherLabels) -> None:
    """Raises DataError: the two have no id in common, or one with two texts."""
    if not other.rows.keys() & first.rows.keys():
        raise DataError(
            f"'{other.stage}' has no id of '{first.stage}'; combine labels of the same rows"
        )
    for identity, text in other.texts.items():
        if first.texts.get(identity, text) != text:
            raise DataError(
                f"row {identity} has the text {quoted(text)} in '{other.stage}' and "
                f"{quoted(first.texts[identity])} in '{first.stage}'; combine labels of the same "
                "rows"
            )


def same_labels(teachers: Sequence[TeacherLabels]) -> list[str]:
    """The labels of all, in the first one's order.

    Raises:
        DataError: two do not have the same, one of them is how a teacher abstains, or there are
            fewer than two.
    """
    first = teachers[0]
    for other in teachers[1:]:
        if other.names.keys() != first.names.keys():
            only = "; ".join(
                f"only '{one.stage}' has {', '.join(more)}"
                for one, two in ((first, other), (other, first))
                if (more := sorted(one.names.keys() - two.names.keys()))
            )
            raise DataError(
                f"'{first.stage}' and '{other.stage}' have different labels: {only}; rename them, "
                "or name those to combine in a file (labels): what lies on others is left out"
            )
    for teacher in teachers:
        if (abstains := teacher.abstentions.told(teacher.stage)) is not None:
            raise DataError(abstains)
    if len(first.names) < 2:
        raise DataError(
            f"the rows of '{first.stage}' have {len(first.names)} labels "
            f"({', '.join(first.names) or 'none'}); two or more are needed"
        )
    return list(first.names)


@dataclass(frozen=True)
class Held:
    """Validation rows that all teachers labelled.

    Attributes:
        teachers: In the order of the first axis of `p`.
        p: [teachers, rows, labels], float64.
        right: Of each row the place of its right label.
        left_out: Rows without a right label of the names, or that a teacher did not label.
    """

    teachers: tuple[str, ...]
    p: Any
    right: list[int]
    left_out: int


def held_out(
    of: Mapping[str, TeacherLabels], right: Mapping[str, object], names: Sequence[str]
) -> Held:
    """Line validation rows up. right: by id the right label.

    Raises:
        DataError: no row is left.
    """
    import numpy as np

    kept, places = [], []
    for identity, label in right.items():
        said = [teacher.of(identity, names) for teacher in of.values()]
        if label in names and all(each is not None for each in said):
            kept.append(said)
            places.append(names.index(label))
    if not kept:
        stages = ", ".join(f"'{teacher.stage}'" for teacher in of.values())
        raise DataError(
            f"no validation row has a right label among {', '.join(names)} and a label of each of "
            f"{stages}"
        )
    p = np.asarray(kept, dtype=float).swapaxes(0, 1)
    return Held(tuple(of), p, places, len(right) - len(kept))
