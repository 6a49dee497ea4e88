"""What a judge says: a grade, or which of two answers is the better one."""

from __future__ import annotations

import re
from typing import Literal

from llm_distill.methods.parsing import read_tag
from llm_distill.rows.thoughts import split_thoughts

GRADE_TAG = "grade"
WINNER_TAG = "winner"
Winner = Literal["a", "b", "tie"]

_GRADE = re.compile(r"\**(?P<grade>-?\d+(?:\.\d+)?)\**(?:\s*/\s*(?P<of>\d+))?\.?")
_WINNER = re.compile(r"\**(?:answer\s+)?(?P<winner>a|b|tie)\**\.?", re.IGNORECASE)
_WINNERS: dict[str, Winner] = {"a": "a", "b": "b", "tie": "tie"}


def read_grade(text: str, lowest: int, highest: int, ended: bool = False) -> float | None:
    """The number in the last `<grade>…</grade>`, or that the whole answer is; else None.

    The last one counts: a judge that quotes the text which it grades does so before. `8/10` is 8 on
    a scale that ends at 10; a grade off the scale, or of another one, is unreadable.

    Args:
        text: what the judge wrote; its thoughts are drafts.
        lowest: the lower end of the scale.
        highest: the upper end.
        ended: as in `read_tag`.

    >>> read_grade("Right. <grade>8</grade>", 1, 10), read_grade("7", 1, 10)
    (8.0, 7.0)
    """
    match = _GRADE.fullmatch(_said(text, GRADE_TAG, ended))
    if match is None or match["of"] not in (None, str(highest)):
        return None
    grade = float(match["grade"])
    return grade if lowest <= grade <= highest else None


def read_winner(text: str, ended: bool = False) -> Winner | None:
    """`A`, `B` or `tie` in the last `<winner>…</winner>`, or as the whole answer; else None.

    >>> read_winner("Both err, B less. <winner>B</winner>"), read_winner("A seems better.")
    ('b', None)
    """
    match = _WINNER.fullmatch(_said(text, WINNER_TAG, ended))
    return None if match is None else _WINNERS[match["winner"].casefold()]


def of_two(first: Winner, swapped: Winner) -> Winner:
    """What two verdicts on one pair come to: the second was given with the places swapped.

    A judge that contradicts itself has not found a better one: it is a tie.

    >>> of_two("a", "b"), of_two("a", "a")
    ('a', 'tie')
    """
    return first if first == swap(swapped) else "tie"


def swap(winner: Winner) -> Winner:
    """The same verdict, where the answers stand in each other's places."""
    return {"a": "b", "b": "a", "tie": "tie"}[winner]  # type: ignore[return-value]


def _said(text: str, tag: str, ended: bool) -> str:
    """The content of the last tag, or the whole text where there is none, without thoughts."""
    answer = split_thoughts(text)[1]
    last = answer.rfind(f"<{tag}>")
    return (read_tag(answer[last:], tag, ended) if last >= 0 else answer.strip()) or ""
