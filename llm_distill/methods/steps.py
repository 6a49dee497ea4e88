"""An answer cut into the steps of its reasoning. Pure.

in:  "3 + 4 = 7.\\n\\n7 + 2 = 9." and the separator `\\n\\s*\\n`
out: ["3 + 4 = 7.", "7 + 2 = 9."]
"""

from __future__ import annotations

import re

BLANK_LINE = r"\n\s*\n"


def split_steps(text: str, separator: str = BLANK_LINE) -> list[str]:
    """What stands between the matches of `separator`, trimmed, without what is blank.

    separator: a regular expression. What it matches is cut out; one that matches between two
        characters cuts nothing out: `(?<=\\.)(?= \\d+\\. )` cuts "1. Add 2. 2. Add 5." before
        "2. Add 5.".
    """
    pieces: list[str] = []
    start = 0
    for match in re.finditer(separator, text):  # re.split would give the groups as well
        pieces.append(text[start : match.start()])
        start = match.end()
    pieces.append(text[start:])
    return [step for piece in pieces if (step := piece.strip())]
