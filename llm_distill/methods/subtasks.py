"""Whether a subtask that a model has made of a hard task is one. Pure.

The conditions are those of Guiding Through Complexity (arXiv 2410.20533): posed by itself, enough
steps, not nearly the whole task.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from fractions import Fraction

from llm_distill.methods.calculations import NUMBER, calculated, calculations

_POINTS_ELSEWHERE = re.compile(
    r"\b(?:previous(?:ly)?"
    r"|(?:the|as|from|given|shown|found|calculated|computed) (?:above|earlier)"
    r"|(?:above|earlier) (?:answer|result|value|calculation|task|problem|question|part|step)"
    r"|sub-?(?:task|problem|question)s?|step \d+|part \d+"
    r"|(?:original|main|first|second|last) (?:task|problem|question|part|step)"
    r"|(?:question|task|problem) \d+)\b",
    re.IGNORECASE,
)
_WORDS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]


def numbers_of(text: str) -> set[Fraction]:
    """The numbers in a text, the words from zero to twelve included.

    >>> sorted(map(str, numbers_of("Ann has three pens for $1,250.50, 20% off.")))
    ['1/5', '20', '2501/2', '3']
    """
    words = {Fraction(_WORDS.index(w)) for w in re.findall(r"[a-z]+", text.lower()) if w in _WORDS}
    written = {Fraction(m["digits"].replace(",", "")) for m in NUMBER.finditer(text)}
    shares = {calculated(m.group()) for m in NUMBER.finditer(text) if m["percent"]}
    return words | written | {share for share in shares if share is not None}


def numbers_from_elsewhere(
    question: str, rationale: str, known: Collection[float] = ()
) -> list[str]:
    """Numbers that a solution calculates with and has from nowhere.

    They are neither in the question, nor what came out of a calculation before, nor known to
    everybody. A question that leaves them out can be answered only by who has seen the whole task.

    >>> numbers_from_elsewhere("Ann finds 4 more. How many now?", "6 + 4 = 10. 10 - 1 = 9.", [1])
    ['6']
    """
    there = numbers_of(question) | {Fraction(str(number)) for number in known}
    found: list[str] = []
    for step in calculations(rationale):
        for match in NUMBER.finditer(rationale, *step.left):
            number = match.group()
            if calculated(number) not in there and calculated(match["digits"]) not in there:
                found.append(number)
        result = calculated(rationale[slice(*step.right)])
        there |= {step.value, *([result] if result is not None else [])}
    return found


def subtask_problem(
    question: str,
    rationale: str,
    whole: str,
    *,
    least_steps: int,
    most_share: float,
    known: Collection[float] = (),
) -> str | None:
    """Why this is no subtask of the task, or None.

    Args:
        question: The subtask's.
        rationale: Its solution.
        whole: The solution of the task. Where it has no calculation, no share of it is known.
        least_steps: Calculations that the subtask's solution has to have.
        most_share: It may not have more than this share of those of the task.
        known: Numbers that a question need not give, such as the minutes of an hour.
    """
    n, n_whole = len(calculations(rationale)), len(calculations(whole))
    if n < least_steps:
        return "too few steps"
    if n_whole and n > most_share * n_whole:
        return "nearly the whole task"
    if _POINTS_ELSEWHERE.search(question) or numbers_from_elsewhere(question, rationale, known):
        return "not self-contained"
    return None
