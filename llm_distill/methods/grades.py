"""The grade that a judge gives."""

from __future__ import annotations

import re

from llm_distill.methods.parsing import read_tag
from llm_distill.rows.thoughts import split_thoughts

GRADE_TAG = "grade"
_GRADE = re.compile(r"\**(?P<grade>-?\d+(?:\.\d+)?)\**(?:\s*/\s*(?P<of>\d+))?\.?")


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
    answer = split_thoughts(text)[1]
    tag = f"<{GRADE_TAG}>"
    last = answer.rfind(tag)
    found = read_tag(answer[last:], GRADE_TAG, ended) if last >= 0 else answer.strip()
    match = _GRADE.fullmatch(found or "")
    if match is None or match["of"] not in (None, str(highest)):
        return None
    grade = float(match["grade"])
    return grade if lowest <= grade <= highest else None
