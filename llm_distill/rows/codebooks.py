"""Codebooks: the questions that are asked of a row, each with its labels and their definitions.

mistake: {guess: "Answers without reason", misread: "Overlooks what the question says"}
faults: {several: true, definition: "What is wrong with it", labels: {rude: "…", too long: "…"}}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llm_distill.errors import DataError, quoted
from llm_distill.rows.columns import COLUMNS
from llm_distill.rows.label_lists import LabelEntry, checked_labels

OWN = ("annotations", "text", "codebook", "form")
"""What annotations and their template call something else."""
DECISIONS = frozenset({"mistake", "remedy", "intention"})
"""Columns that are the labels of such a codebook, whoever gave them."""
_FIELD = re.compile(r"[a-z][a-z0-9_]*")
_LONG = {"labels", "several", "definition"}


@dataclass(frozen=True)
class CodebookField:
    """A question with its labels. several: more than one may fit, or none."""

    name: str
    labels: tuple[LabelEntry, ...]
    several: bool = False
    definition: str = ""

    @property
    def names(self) -> list[str]:
        return [label.name for label in self.labels]


def read_codebook(raw: Mapping[str, Any], place: str) -> tuple[CodebookField, ...]:
    """The fields of a codebook.

    Args:
        raw: Field to labels: a mapping of label to definition, or `{labels: …, several: true,
            definition: …}`. Labels are such a mapping, or a list of names or of mappings.
        place: Where it is, for messages.

    Raises:
        DataError: a field has the name of a column that means something else, fewer than two
            labels, or two that cannot be told apart.
    """
    if not raw:
        raise DataError(f"{place}: it has no fields; write field: {{label: definition, …}}")
    return tuple(_field(name, of, f"{place}, field {quoted(name)}") for name, of in raw.items())


def _field(name: Any, raw: Any, place: str) -> CodebookField:
    if not isinstance(name, str) or not _FIELD.fullmatch(name):
        raise DataError(
            f"{place}: a field is a column, so its name has small letters, digits and _ only"
        )
    if name in OWN or (name in COLUMNS and name not in DECISIONS):
        means = COLUMNS[name][1] if name in COLUMNS else "a part of the annotations"
        raise DataError(
            f"{place}: the column '{name}' is something else ({means}); rename the field, such as "
            f"own_{name}"
        )
    if isinstance(raw, Mapping) and isinstance(raw.get("labels"), Mapping | list):
        unknown = sorted(str(key) for key in raw.keys() - _LONG)
        if unknown or not isinstance(raw.get("several", False), bool):
            what = f"unknown {', '.join(unknown)}" if unknown else "several is true or false"
            raise DataError(f"{place}: {what}; allowed: {', '.join(sorted(_LONG))}")
        labels, definition = raw["labels"], str(raw.get("definition") or "").strip()
        return CodebookField(name, _labels(labels, place), raw.get("several", False), definition)
    if isinstance(raw, Mapping) and isinstance(raw.get("several"), bool):
        labels = {label: means for label, means in raw.items() if label != "several"}
        return CodebookField(name, _labels(labels, place), raw["several"])
    return CodebookField(name, _labels(raw, place))


def _labels(raw: Any, place: str) -> tuple[LabelEntry, ...]:
    if isinstance(raw, Mapping):
        raw = [_entry(label, definition, place) for label, definition in raw.items()]
    if not isinstance(raw, list) or len(raw) < 2:
        raise DataError(f"{place}: it needs two labels or more: {{label: definition, …}}")
    return tuple(checked_labels(raw, place))


def _entry(label: Any, definition: Any, place: str) -> dict[str, Any]:
    if definition is not None and not isinstance(definition, str):
        raise DataError(
            f"{place}: the definition of {quoted(label)} is text, not {quoted(definition)}"
        )
    # In a mapping a label that needs no definition still has a place for one.
    return {"name": label} | ({"definition": definition} if (definition or "").strip() else {})
