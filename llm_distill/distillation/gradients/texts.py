"""Rows as tokens with what is in the loss; equal texts are one, and a bad row says what it lacks.

row:  {"id": "a", "prompt": "2 + 2 =", "completion": "4"}
text: ids [2, +, 2, =, 4, <end>], places [4, 5]
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llm_distill.distillation.alignment.encoding import in_loss
from llm_distill.rows.columns import Row, task_of
from llm_distill.rows.unusable import UnusableRowError

if TYPE_CHECKING:
    from llm_distill.distillation.alignment.encoding import RowEncoder
    from llm_distill.distillation.rows import RowText


@dataclass(frozen=True)
class Text:
    """A row's tokens. places: the index of every token in the loss, ascending and above 0."""

    name: str
    ids: NDArray[np.int32]
    places: NDArray[np.int64]
    task: str = ""

    @property
    def key(self) -> str:
        """The same for equal tokens with the same ones in the loss."""
        digest = hashlib.sha256(self.ids.astype("<i4").tobytes())
        digest.update(b"/" + self.places.astype("<i8").tobytes())
        return digest.hexdigest()[:24]


@dataclass
class Texts:
    """Of each row in order, its text's key, or why it has none.

    of: the different texts by key, in order of first appearance. all: the usable ones, in order.
    """

    keys: list[str | None] = field(default_factory=list)
    errors: list[str | None] = field(default_factory=list)
    of: dict[str, Text] = field(default_factory=dict)
    all: list[Text] = field(default_factory=list)

    def reasons(self) -> str:
        """How many rows have no text, by reason."""
        counts = Counter(error for error in self.errors if error is not None)
        return ", ".join(f"{count} {reason}" for reason, count in counts.items())


def read_texts(rows: Iterable[Row], where: RowText, encoder: RowEncoder) -> Texts:
    """The texts of rows. A row with an `error` has none, for the same reason."""
    turns, tools = where.turns(), where.tools()
    found = Texts()
    for row in rows:
        error, key = row.get("error"), None
        if not error:
            try:
                encoded = encoder.encode(turns(row), tools(row), is_open=where.is_open(row))
            except UnusableRowError as problem:
                error = str(problem)
            else:
                text = Text(str(row["id"]), encoded.ids, in_loss(encoded), task_of(row))
                key = text.key
                found.of.setdefault(key, text)
                found.all.append(text)
        found.keys.append(key)
        found.errors.append(str(error) if error else None)
    return found
