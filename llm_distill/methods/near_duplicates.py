"""Texts that say the same thing."""

from __future__ import annotations

from collections.abc import Sequence

from llm_distill.methods.words import ngrams, normalise, numbers

PERMUTATIONS = 128
RECALL = 0.999
"""The least chance that a pair whose Jaccard similarity equals the threshold is compared."""


def jaccard(a: set[str], b: set[str]) -> float:
    """Shared n-grams over all n-grams; two empty sets are equal."""
    return len(a & b) / len(a | b) if a or b else 1.0


def first_of_each(texts: Sequence[str]) -> list[int | None]:
    """For each text the index of the first one that is equal once normalised, None for itself."""
    seen: dict[str, int] = {}
    first = [seen.setdefault(normalise(text), index) for index, text in enumerate(texts)]
    return [found if found != index else None for index, found in enumerate(first)]


def near_duplicates(texts: Sequence[str], *, threshold: float, n: int) -> list[int | None]:
    """For each text the index of an earlier kept one that is nearly equal, None if it is kept.

    Nearly equal: the Jaccard similarity of the word n-grams is at least `threshold`, and the
    numbers are the same in the same order: "Tom has 3 apples …" and "Tom has 4 apples …" are two
    problems however long they are. MinHash with locality-sensitive hashing finds candidates; their
    true similarity decides, so there are no false positives, and a pair at the threshold is missed
    with a chance below 0.1 %.
    """
    from rensa import RMinHash, RMinHashLSH

    index = RMinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, num_bands=bands(threshold))
    kept: dict[int, tuple[set[str], tuple[str, ...]]] = {}
    found: list[int | None] = []
    for position, text in enumerate(texts):
        grams, figures = ngrams(text, n), numbers(text)
        sketch = RMinHash(num_perm=PERMUTATIONS, seed=1)
        sketch.update(sorted(grams))
        near = [
            key
            for key in index.query(sketch)
            if kept[key][1] == figures and jaccard(grams, kept[key][0]) >= threshold
        ]
        found.append(min(near) if near else None)
        if not near:
            index.insert(position, sketch)
            kept[position] = (grams, figures)
    return found


def bands(threshold: float) -> int:
    """The fewest bands of a sketch with which a pair at the threshold is found (`RECALL`).

    With b bands of r rows, a pair of similarity s shares a band with probability 1 - (1 - s^r)^b.
    """
    for count in (4, 8, 16, 32, 64):
        rows = PERMUTATIONS // count
        if 1 - (1 - threshold**rows) ** count >= RECALL:
            return count
    return PERMUTATIONS
