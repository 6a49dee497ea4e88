"""Finds texts again that must stay unseen, such as a test's items in a model's training data."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from llm_distill.errors import DataError, nearest
from llm_distill.methods.near_copies import ALIKE, NearCopies
from llm_distill.methods.words import length, ngrams, normalise

Comparison = Literal["ngram", "near", "whole"]
Compare = Literal["auto", "ngram", "near", "whole"]

COMPARE = (
    "ngram: what shares `ngram` words in a row that no other text has; near: near-copies; whole: "
    "texts as a whole; auto: the first of these that can tell the task's own texts apart. For all "
    "tasks, or by task"
)
PAIR = 2
"""Two texts that are alike may be one question twice; more of them are made from a template."""


@dataclass(frozen=True)
class Compared:
    """How a task's texts are found again, and why.

    Attributes:
        comparison: What is compared.
        alike: How much of the task's own texts n-grams would call copies of one another.
        threshold: The share of its n-grams by which a near-copy is known; None for the others.
        asked: Whether the settings name the comparison.
    """

    comparison: Comparison
    alike: float
    threshold: float | None
    asked: bool

    def how(self, n: int) -> str:
        """In words, for people."""
        if self.comparison == "ngram":
            return f"{n} words in a row"
        return "the whole" if self.threshold is None else f"near-copies above {self.threshold:.2f}"

    def why(self, n: int) -> str:
        """In words, for people."""
        own = f"{self.alike:.0%} of its own texts share {n} words in a row with another"
        if self.asked:
            return f"compare says so; {own}"
        return f"{own}, and are as alike as copies" if self.comparison == "whole" else own


class SeenTexts:
    """Texts by id, found again in other texts, by a comparison that is chosen for each task.

    ngram: n words in a row that no other of the texts has; what several of them have is the wording
    of a task. near: a near-copy (`NearCopies`). whole: all of its words in a row. A text that
    equals one of them is always found; one that is shorter than n words only so.

    With `auto` it is the first of the three that hardly ever takes two of the task's own texts for
    copies of each other. They are different questions, so what finds one in another would find it
    in any new question of the task.

    Attributes:
        compared: By task, how its texts are found again.
    """

    def __init__(
        self,
        texts: Mapping[str, str],
        n: int,
        tasks: Mapping[str, str] | None = None,
        compare: Compare | Mapping[str, Compare] = "auto",
    ) -> None:
        """Index the texts.

        Args:
            texts: By id.
            n: Words in an n-gram.
            tasks: By id; a text without one is of the task "".
            compare: For all tasks, or by task; a task that it does not name is `auto`.
        """
        self._n = n
        self._ids: dict[str, set[str]] = defaultdict(set)
        groups: dict[str, dict[str, None]] = defaultdict(dict)
        for identity, text in texts.items():
            whole = normalise(text)
            if whole and whole not in self._ids:
                groups[(tasks or {}).get(identity, "")][whole] = None
            if whole:
                self._ids[whole].add(identity)
        counts = Counter(gram for text in self._ids for gram in ngrams(text, n))
        self._grams: dict[str, str] = {}
        self._near: list[tuple[list[str], NearCopies]] = []
        self._starts: dict[str, set[int]] = defaultdict(set)
        self.compared: dict[str, Compared] = {}
        for task, group in groups.items():
            asked = compare if isinstance(compare, str) else compare.get(task, "auto")
            self._add(task, list(group), asked, counts)

    def found_in(self, text: str) -> dict[str, Comparison]:
        """Ids of the texts that are found in this one, each with what it was found by."""
        whole = normalise(text)
        found: dict[str, Comparison] = {}
        for seen, comparison in self._matches(whole):
            for identity in self._ids[seen]:
                found.setdefault(identity, comparison)
        return found

    def found_in_rows(self, rows: Iterable[Mapping[str, Any]]) -> set[str]:
        """The ids of `found_in`, over every text of the rows."""
        texts = (text for row in rows for text in texts_of(row))
        return {identity for text in texts for identity in self.found_in(text)}

    def _add(self, task: str, texts: list[str], asked: Compare, counts: Counter[str]) -> None:
        # Without the text itself, an n-gram of two texts is one that a single text has.
        alike = sum(any(counts[g] == 2 for g in ngrams(text, self._n)) for text in texts)
        comparison, threshold = asked, None
        if comparison == "auto":
            comparison = "ngram" if alike <= max(PAIR, ALIKE * len(texts)) else "near"
        if comparison == "ngram":
            self._grams.update(
                (g, text) for text in texts for g in ngrams(text, self._n) if counts[g] == 1
            )
        else:
            long = [text for text in texts if length(text) >= self._n]
            for words in (text.split(" ") for text in long):
                self._starts[" ".join(words[: self._n])].add(len(words))
            if comparison == "near":
                near = NearCopies(long)
                if near.can_tell:
                    self._near.append((long, near))
                    threshold = near.threshold
                else:
                    comparison = "whole"
        share = alike / len(texts)
        self.compared[task] = Compared(comparison, share, threshold, comparison == asked)

    def _matches(self, text: str) -> Iterator[tuple[str, Comparison]]:
        if text in self._ids:
            yield text, "whole"
        for gram in ngrams(text, self._n) if self._grams else ():
            if gram in self._grams:
                yield self._grams[gram], "ngram"
        words = text.split(" ") if self._starts else []
        for start in range(len(words) - self._n + 1):
            for size in self._starts.get(" ".join(words[start : start + self._n]), ()):
                run = " ".join(words[start : start + size])
                if run in self._ids:
                    yield run, "whole"
        for texts, near in self._near:
            for index in near.found_in(text):
                yield texts[index], "near"


def check_named(compare: Compare | Mapping[str, Compare], known: Collection[str]) -> None:
    """Raise a DataError if a comparison is named for a task that is not known."""
    for task in () if isinstance(compare, str) else compare:
        if task not in known:
            raise DataError(
                f"compare: '{task}' is no task of what is compared with; {nearest(task, known)}"
            )


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
