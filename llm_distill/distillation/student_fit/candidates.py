"""Rows in their order: those that can be scored with their figures, the others with the reason."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from llm_distill.rows.columns import Row
from llm_distill.rows.unusable import UnusableRowError
from llm_distill.training.encoder import EncodedTurn

Text = TypeVar("Text")
Found = TypeVar("Found")


class Candidates:
    """A stage's rows, read as `usable` is."""

    def __init__(self, rows: Iterable[Row], encode: Callable[[Row], list[EncodedTurn]]) -> None:
        """encode: see `AnsweredRow.encoded`."""
        self._rows, self._encode = rows, encode
        self._waiting: deque[tuple[Row, str | None]] = deque()

    def usable(self, read: Callable[[list[EncodedTurn]], Text]) -> Iterator[tuple[Row, Text]]:
        """The rows that can be scored, with what `read` makes of their turns.

        read: may raise UnusableRowError, as the encoder does.
        """
        for row in self._rows:
            try:
                if row.get("error"):
                    raise UnusableRowError("with an error")
                text = read(self._encode(row))
            except UnusableRowError as error:
                self._waiting.append((row, str(error)))
                continue
            self._waiting.append((row, None))
            yield row, text

    def joined(self, found: Iterable[Found]) -> Iterator[tuple[Row, Found | str]]:
        """Every row, in order: with the next of `found`, or why it has none.

        found: of each row that `usable` gives, in order; that is read meanwhile.
        """
        for each in found:
            yield from self._refused()
            yield self._waiting.popleft()[0], each
        yield from self._refused()

    def _refused(self) -> Iterator[tuple[Row, str]]:
        while self._waiting and (reason := self._waiting[0][1]) is not None:
            yield self._waiting.popleft()[0], reason
