"""Which script texts are written in: Latin, Cyrillic, Arabic. Pure."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache

EAST_ASIAN = "Han or kana"
"""One script here, as a Japanese text has both."""
NAMES = {
    "CJK": EAST_ASIAN, "HIRAGANA": EAST_ASIAN, "KATAKANA": EAST_ASIAN, "HALFWIDTH": EAST_ASIAN,
    "KATAKANA-HIRAGANA": EAST_ASIAN, "FULLWIDTH": "Latin",
}  # fmt: skip
"""Of first words of Unicode's names of letters that are no script's own."""


@cache
def _script(letter: str) -> str:
    first = unicodedata.name(letter, "other").partition(" ")[0]
    return NAMES.get(first, first.capitalize())


def scripts(texts: Iterable[str]) -> Counter[str]:
    """By script its letters.

    >>> scripts(["Спорт, sport", "体育とスポーツ"]) == {"Cyrillic": 5, "Latin": 5, EAST_ASIAN: 7}
    True
    """
    return Counter(_script(letter) for text in texts for letter in text if letter.isalpha())


def main_script(texts: Iterable[str]) -> str | None:
    """The script of more than half of the letters; None: there is none."""
    counts = scripts(texts)
    return next((script for script, n in counts.items() if 2 * n > counts.total()), None)
