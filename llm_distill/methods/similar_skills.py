"""Names of skills that mean the same: plurals, other spellings, another order of words.

The rules are for English, and cautious: what they leave apart a person can merge in the list, but
nobody would notice what they merged wrongly.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import SequenceMatcher

LIKENESS = 0.92
"""The ratio of difflib: factorisation and factorization pass, hundreds and hundredths do not."""

_LINKS = frozenset({"a", "an", "and", "in", "of", "the"})
"""Words that can be missing. Not `with` or `from`: they change the meaning."""

_DIRECTED = frozenset({"by", "from", "into", "over", "than", "to", "with"})
"""Words that make the order matter: inches to feet is not feet to inches."""


def merge_similar(counts: Mapping[str, int]) -> dict[str, str]:
    """Each name's representative: itself or the most frequent name that is nearly the same.

    A name joins the first similar one in the order of frequency, then of the alphabet, but never
    one that has joined another, so that names do not drift apart in small steps.

    Args:
        counts: canonical names, with how often each was given; their order does not matter.
    """
    representatives: dict[str, list[str]] = {}
    merged: dict[str, str] = {}
    for name in sorted(counts, key=lambda name: (-counts[name], name)):
        words = _words(name)
        like = (other for other, theirs in representatives.items() if _similar(words, theirs))
        merged[name] = next(like, name)
        if merged[name] == name:
            representatives[name] = words
    return merged


def _words(name: str) -> list[str]:
    """The words without those that only link; sorted, unless their order matters."""
    words = name.split("_")
    if not _DIRECTED & set(words):
        words.sort()
    return [word for word in words if word not in _LINKS] or words


def _similar(first: list[str], second: list[str]) -> bool:
    if len(first) != len(second):
        return False
    return all(_same_word(a, b) for a, b in zip(first, second, strict=True))


def _same_word(a: str, b: str) -> bool:
    """Words that begin differently are too often antonyms, and numbers are never nearly equal."""
    if _singulars(a) & _singulars(b):
        return True
    if a[:4] != b[:4] or re.search(r"\d", a + b):
        return False
    return SequenceMatcher(None, a, b, autojunk=False).ratio() >= LIKENESS


def _singulars(word: str) -> set[str]:
    """The word, and its possible singulars if it is a plural."""
    found = {word}
    if len(word) > 3 and not re.search(r"(ss|us|is)$", word):
        found.add(word.removesuffix("s"))
        if re.search(r"(s|x|z|ch|sh)es$", word):
            found.add(word[:-2])
        if word.endswith("ies"):
            found.add(f"{word[:-3]}y")
    return found
