"""What a teacher answers where no label fits, found in its rows. Pure.

{"id": "n1", "label": null, "choices": ["arts", "other"], "probabilities": [0.1, 0.9]}: other
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llm_distill.methods.labels import likeliest


class Abstentions:
    """Finds names that are likeliest in rows without a label, and are no row's label.

    Rows whose labels are none of the choices say nothing: parts of classes (`split_labels`), or
    another's names.
    """

    def __init__(self) -> None:
        self._labels: set[str] = set()
        self._choices: set[str] = set()
        self._of_none: dict[str, str] = {}

    def add(self, identity: str, label: Any, choices: Any, probabilities: Any) -> None:
        """A row, whose columns may be anything."""
        if isinstance(label, str) and label.strip():
            self._labels.add(label)
        if not _is_list(choices) or not _is_list(probabilities):
            return
        self._choices.update(choices)
        if label is None and len(choices) == len(probabilities) > 0:
            shares = [share or 0.0 for share in probabilities]
            self._of_none.setdefault(likeliest(shares, choices)[0], identity)

    def told(self, stage: str) -> str | None:
        """One of them, with what to do; None: there is none. stage: whose rows these are."""
        if self._labels.isdisjoint(self._choices):
            return None
        found = [(name, row) for name, row in self._of_none.items() if name not in self._labels]
        if not found:
            return None
        name, row = found[0]
        return (
            f"row {row} of '{stage}' has no label, and {name!r} is the likeliest of its choices, "
            "which is no row's label: so a teacher abstains. Name the file with the labels "
            f"(labels), so that it is left out, or with {name!r} in it, so that it is one of them"
        )


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
