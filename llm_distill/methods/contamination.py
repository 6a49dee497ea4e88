"""Finds texts again that must stay unseen, such as a test's items in a model's training data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from llm_distill.methods.words import ngrams, normalise


class SeenTexts:
    """Texts by id, found again by their word n-grams.

    An n-gram that several different texts share belongs to the wording of a task, not to an item:
    it would be found in every question of a task whose questions all begin with the same
    instructions. So only n-grams of a single text count, and every text as a whole.
    """

    def __init__(self, texts: Mapping[str, str], n: int) -> None:
        """n: words in an n-gram."""
        self._n = n
        self._whole: dict[str, set[str]] = defaultdict(set)
        for identity, text in texts.items():
            self._whole[normalise(text)].add(identity)
        self._whole.pop("", None)
        self._grams: dict[str, str | None] = {}  # None: of several texts
        for text in self._whole:
            for gram in ngrams(text, n):
                self._grams[gram] = None if gram in self._grams else text

    def found_in(self, text: str) -> set[str]:
        """Ids of the texts that this one equals once normalised, or shares an n-gram with.

        A text shorter than n is one shorter n-gram, so it only matches its equal.
        """
        whole = normalise(text)
        found = set(self._whole.get(whole, ()))
        for gram in ngrams(whole, self._n):
            seen = self._grams.get(gram)
            if seen is not None:
                found |= self._whole[seen]
        return found

    def found_in_rows(self, rows: Iterable[Mapping[str, Any]]) -> set[str]:
        """As `found_in`, over every text of the rows."""
        texts = (text for row in rows for text in texts_of(row))
        return {identity for text in texts for identity in self.found_in(text)}


def texts_of(value: Any) -> Iterator[str]:
    """Every text in a row, including those in lists and chat messages."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from texts_of(part)
    elif isinstance(value, Iterable):
        for part in value:
            yield from texts_of(part)
