"""A completion's text, piece by piece while it is written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

HALF = "\ufffd"
"""What a tokenizer shows of a character whose other bytes are still to come."""


class Pieces:
    """Says the text of a growing list of tokens, each piece once, and nothing that is taken back.

    Held back are half a character, and what may be the beginning of a stop string.
    """

    def __init__(
        self,
        text: Callable[[list[int]], str],
        ends: Collection[int],
        stops: Sequence[str],
        say: Callable[[str], None],
    ) -> None:
        """text: of tokens. ends: tokens without one, which end a completion."""
        self._text, self._ends, self._stops, self._say = text, ends, stops, say
        self._n_said = 0

    def heard(self, tokens: list[int]) -> None:
        """All tokens so far."""
        text = self._text(tokens[:-1] if tokens[-1] in self._ends else tokens)
        if not text.endswith(HALF):
            self.rest(text[: len(text) - self._held(text)])

    def rest(self, text: str) -> None:
        """Say what of the text has not been said yet."""
        if len(text) > self._n_said:
            self._say(text[self._n_said :])
            self._n_said = len(text)

    def _held(self, text: str) -> int:
        """How many characters at the end may belong to a stop string."""
        found = [len(text) - text.find(stop) for stop in self._stops if stop in text]
        for stop in self._stops:
            found += [n for n in range(1, len(stop)) if text.endswith(stop[:n])]
        return max(found, default=0)
