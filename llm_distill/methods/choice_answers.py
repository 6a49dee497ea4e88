"""Which choice an answer names. Pure."""

from __future__ import annotations

import re

from llm_distill.methods.decoration import boxed, undecorated

_NAMED = re.compile(
    r"(?:(?:so|thus|therefore|hence)\s*,?\s*)?(?:(?:the|my)\s+)?(?:(?:correct|best|right|final)\s+)*"
    r"(?:answer|ans|option|choice)\s*(?:is\b|[.:=])?\s*(?:(?:option|choice)\b)?\s*",
    re.IGNORECASE,
)
_CHOICE = re.compile(r"[(\[{<]?\s*(?P<mark>[A-Za-z]|\d{1,2})\s*(?:[)\]}>.:,、]|$|\n|\s-\s|\sis\b)")
_ANOTHER = re.compile(
    r"(?:and|or|und|oder|[/&+,])\s*[(\[]?[A-Za-z](?:[)\].:,/&+]|\s|$)"
    r"|[(\[]?[A-Z][)\]](?!\w)|[A-Z][.:]?\s*$"
)


def read_choice(text: str) -> str | None:
    r"""The letter or number of the one choice that a text names; None where it names none or two.

    >>> read_choice(r"Answer: **B**"), read_choice("(b) Paris"), read_choice("A) and C)")
    ('B', 'B', None)
    """
    whole = undecorated(re.sub(r"[*_`]", "", boxed(text)), lines=True)
    bare = undecorated(_NAMED.sub("", whole, count=1) if _NAMED.match(whole) else whole, lines=True)
    found = _CHOICE.match(bare)
    if found is None:
        return None
    rest = re.sub(r"^[)\]}>.:、 ]+", "", bare[found.end("mark") :])
    if _ANOTHER.match(rest.partition("\n")[0]):
        return None
    return found["mark"].upper()
