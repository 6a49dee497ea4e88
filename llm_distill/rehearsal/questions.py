"""Questions whose right answer can be computed from their text alone.

    Mira sorts the shells by size before lunch, … In item 3f9a02c1, how many are left?   ->   70

Where a question lists options, its answer is the letter of one of them.
"""

from __future__ import annotations

import hashlib
import random
import re

WORDS = re.findall(
    r"\w+",
    """
    amber basket candle drawer engine feather garden hammer island jacket kettle ladder market
    needle orange pencil quarry ribbon saddle ticket uncle violin window yellow zebra anchor
    bottle copper donkey elbow fabric goblet harbor insect jungle knight lemon meadow napkin
    oyster pepper quiver rocket silver timber umbrella valley walnut
    """,
)
CODE = re.compile(r"item ([0-9a-f]{8})\b")
OPTIONS = "Options: (A) amber (B) basket (C) candle (D) drawer (E) engine"
FORM = (
    "A shop opens at nine and sells lamps until the clerk goes home in the evening; every lamp is "
    "wrapped, counted and written into the same long list before the door is closed."
)


def question(draw: random.Random, templated: bool, options: bool) -> str:
    """One of a task. templated: all of the task's questions have the same wording."""
    code = f"{draw.getrandbits(32):08x}"
    text = FORM if templated else f"{' '.join(draw.choices(WORDS, k=24)).capitalize()}."
    asked = f"{text} In item {code}, how many are left?"
    return f"{asked} {OPTIONS}" if options else asked


def asked_for_code(text: str) -> str:
    """A question of the user's own, with an end that gives it an answer: the same for the same."""
    code = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{text} In item {code}, how many are left?"


def another_like(text: str, draw: random.Random) -> str:
    """A new question of the task that a text is from."""
    return question(draw, FORM in text, OPTIONS in text)


def right_answer(text: str) -> str | None:
    """Of the last question in a text; None where there is none."""
    codes = list(CODE.finditer(text))
    if not codes:
        return None
    value = int(codes[-1].group(1), 16)
    if OPTIONS in text[codes[-1].end() :]:
        return f"({'ABCDE'[value % 5]})"
    return str(value % 97 + 3)
