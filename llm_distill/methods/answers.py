"""The final answer of a completion, and whether it equals the reference. Nothing here raises."""

from __future__ import annotations

import logging
import re
import threading
from fractions import Fraction
from typing import Literal

from llm_distill.methods.parsing import read_tag

AnswerKind = Literal["exact", "choice", "math"]
ANSWER_TAG = "ans"
TIMEOUT = 5
"""Seconds that math-verify has to read an answer, and again to compare it."""

_LONGEST = 300
_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")
# Expressions that would be evaluated digit by digit, for hours: a power of a power of numbers, an
# exponent of five digits, a factorial of a large or composed number, a long sum or product.
_ENDLESS = re.compile(
    r"(?:\^|\*\*)[\s{(]*(?:\d+[\s})]*(?:\^|\*\*)|-?\d{5,})"
    r"|(?:\d{4,}|[)}!])\s*!"
    r"|(?:\\[dt]?binom|\\sum|\\prod|\\int).*\d{5,}"
    r"|\d[eE]\+?\d{4,}",
    re.DOTALL,
)


def extract_answer(text: str) -> str | None:
    """The text of the first `<ans>…</ans>`; None if there is none, or it is empty.

    Later ones belong to other questions.
    """
    return read_tag(text, ANSWER_TAG) or None


def answers_equal(answer: str | None, reference: str, kind: AnswerKind = "exact") -> bool:
    """Whether an answer is right. A missing or blank one never is.

    exact: equal except for case, white space and a `.`, `,`, `;` or `:` at the end.
    choice: the same letter, written as `(B)`, `B)`, `B.` or `B`, with or without the choice's
        text; or equal as above.
    math: equal as numbers or expressions (math-verify, which does not tell x from X), or as above.
        In a whole solution, as MATH's are, the last `\\boxed{…}` counts.
        Expressions that cannot be evaluated in reasonable time are compared as text only.
    """
    if answer is None or not answer.strip():
        return False
    if _tidy(answer) == _tidy(reference):
        return True
    if kind == "choice":
        letter = _choice(answer)
        return letter is not None and letter == _choice(reference)
    return kind == "math" and _equal_as_math(answer, reference)


def _tidy(text: str) -> str:
    spaced = " ".join(text.casefold().split())
    return spaced.rstrip(".,;: ") or spaced


def _choice(text: str) -> str | None:
    found = re.match(r"\s*\(?\s*([A-Za-z])\s*(?:[).:]|$)", text)
    return found.group(1).upper() if found else None


def boxed(text: str) -> str:
    r"""The content of the last `\boxed{…}` of a solution; the text itself without one.

    >>> boxed(r"So the sum is $\boxed{\frac{1}{2}}$.")
    '\\frac{1}{2}'
    """
    _, found, rest = text.rpartition(r"\boxed{")
    depth = 1
    for index, letter in enumerate(rest if found else ""):
        depth += (letter == "{") - (letter == "}")
        if depth == 0:
            return rest[:index]
    return text


def _equal_as_math(answer: str, reference: str) -> bool:
    answer, reference = boxed(answer), boxed(reference)
    if not answer.strip():
        return False
    if _tidy(answer) == _tidy(reference):
        return True
    given, wanted = _number(answer), _number(reference)
    if given is not None and wanted is not None:
        both_whole = given.denominator == wanted.denominator == 1
        if given == wanted or both_whole:
            return given == wanted
    if any(len(text) > _LONGEST or _ENDLESS.search(text) for text in (answer, reference)):
        return False
    return _math_verify(answer, reference)


def _number(text: str) -> Fraction | None:
    plain = _tidy(text).strip("$ ")
    if len(plain) > _LONGEST or not plain.isascii() or not _NUMBER.fullmatch(plain):
        return None
    return Fraction(plain.replace(",", ""))


def _math_verify(answer: str, reference: str) -> bool:
    from math_verify import parse, verify

    # Its time limit is a signal, which only the main thread can set.
    limit = TIMEOUT if threading.current_thread() is threading.main_thread() else None
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns of that at every call
    try:
        gold = parse(_as_math(reference), parsing_timeout=limit)
        given = parse(_as_math(answer), parsing_timeout=limit)
        return bool(gold and given and verify(gold, given, timeout_seconds=limit))
    except Exception:  # what a model wrote must not end a run
        return False


def _as_math(text: str) -> str:
    return text if "$" in text or "\\boxed" in text else f"${text}$"
