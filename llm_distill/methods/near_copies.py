"""Near-copies of texts in a task whose texts are all alike. Pure.

How alike two different questions of the task can be is learned from the texts themselves: only what
is more like one of them than they are like each other is a near-copy.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np

GRAM = 3
"""Words in the n-grams that are compared."""
FLOOR = 0.8
"""The least share, in a task whose texts are nothing like each other."""
ALIKE = 0.05
"""The share of the texts that may be as like another one as a copy is."""
MEASURED = 1000
"""How many of the texts are compared with all others to learn `threshold`."""
SLACK = 1.25
"""How much longer than a text the place is in which its n-grams are looked for."""


class NearCopies:
    """Texts, found again by the share of their n-grams that another text has.

    An n-gram weighs log((texts + 1) / texts that have it), so a template's wording weighs little
    and the values in it much. The n-grams stand close together in the other text, which has the
    same numbers in the same order.

    Attributes:
        threshold: A near-copy has a greater share than this.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        """texts: normalised, each of them once."""
        self._sizes = [len(text.split(" ")) for text in texts]
        self._numbers = [_numbers(text) for text in texts]
        self._grams = [set(_grams(text)) for text in texts]
        having: dict[str, list[int]] = defaultdict(list)
        for index, grams in enumerate(self._grams):
            for gram in grams:
                having[gram].append(index)
        self._having = {gram: np.array(indices) for gram, indices in having.items()}
        self._totals = self._sums(having, lambda n: np.log((len(texts) + 1) / n))
        self.threshold = self._learned(texts)

    @property
    def can_tell(self) -> bool:
        """Whether there is a share at which a copy differs from another question."""
        return self.threshold < 1

    def found_in(self, text: str) -> list[int]:
        """The indices of the texts of which a normalised text is, or holds, a near-copy."""
        grams, figures = _grams(text), _numbers(text)
        shares = self._shared(grams) / self._totals
        return [
            int(index)
            for index in np.flatnonzero(shares > self.threshold)
            if _run_in(self._numbers[index], figures)
            and self._share_at_one_place(int(index), grams) > self.threshold
        ]

    def _learned(self, texts: Sequence[str]) -> float:
        """What all but a few of the texts do not exceed in another one of them."""
        n = len(texts)
        if n < 2:
            return FLOOR
        # As if the text were not among them, so that they are compared as with a new one.
        others = self._sums(self._having, lambda count: np.log(n / count))
        chosen = range(0, n, -(-n // MEASURED))
        nearest = []
        for this in chosen:
            grams = [g for g in self._grams[this] if len(self._having[g]) > 1]
            shared = self._sums(grams, lambda count: np.log(n / (count - 1)))
            rest = others - self._sums(grams, lambda count: np.log(n / count))
            shares = shared / np.maximum(rest + shared, 1e-9)
            shares[this] = 0
            alike = (
                shares[other]
                for other in np.argsort(-shares)
                if shares[other] <= FLOOR or _run_in(self._numbers[other], self._numbers[this])
            )
            nearest.append(float(next(alike)))
        nearest.sort()
        learned = nearest[-1 - int(ALIKE * len(nearest))]
        return max(FLOOR, round(learned, 6))

    def _shared(self, grams: Sequence[str]) -> np.ndarray:
        known = {gram for gram in grams if gram in self._having}
        return self._sums(known, lambda n: np.log((len(self._grams) + 1) / n))

    def _sums(self, grams: Iterable[str], weigh: Callable[[int], float]) -> np.ndarray:
        """For each text the weights of those of the n-grams that it has."""
        having = [self._having[gram] for gram in grams]
        if not having:
            return np.zeros(len(self._grams))
        weights = [weigh(len(indices)) for indices in having]
        return np.bincount(
            np.concatenate(having),
            np.repeat(weights, [len(indices) for indices in having]),
            len(self._grams),
        )

    def _share_at_one_place(self, index: int, grams: Sequence[str]) -> float:
        """As the share, within a stretch that is hardly longer than the text.

        Without it a prompt with many questions of the task would have a little of every text.
        """
        own, length = self._grams[index], self._sizes[index] * SLACK
        places = [place for place, gram in enumerate(grams) if gram in own]
        weights = {g: np.log((len(self._grams) + 1) / len(self._having[g])) for g in own}
        inside: Counter[str] = Counter()
        total = best = 0.0
        start = 0
        for place in places:
            inside[grams[place]] += 1
            total += weights[grams[place]] * (inside[grams[place]] == 1)
            while place - places[start] >= length:
                left = grams[places[start]]
                inside[left] -= 1
                total -= weights[left] * (inside[left] == 0)
                start += 1
            best = max(best, total)
        return best / float(self._totals[index])


def _grams(text: str) -> list[str]:
    """In order; a text with fewer words is one as a whole."""
    words = text.split(" ")
    return [" ".join(words[i : i + GRAM]) for i in range(max(1, len(words) - GRAM + 1))]


def _numbers(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(" ") if any(map(str.isnumeric, word)))


def _run_in(part: tuple[str, ...], whole: tuple[str, ...]) -> bool:
    return any(whole[i : i + len(part)] == part for i in range(len(whole) - len(part) + 1))
