"""The calculations that a text writes out, `3 + 4 = 7`, and which of them are wrong. Pure.

A step of a rationale is an equation between numbers here: what it says can be checked without a
model. Words between numbers, variables, powers and units are not read, and such a step not counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

NUMBER = re.compile(r"[$€£]?(?P<digits>\d+(?:,\d{3})*(?:\.\d+)?)(?P<percent>%?)")
_OPERAND = r"(?:\([ \t]*)*+-?[$€£]?\d++(?:,\d{3})*+(?:\.\d+)?+%?+(?:[ \t]*\))*+"
_OPERATOR = r"(?:[-+*/×·÷−]|\\times\b|\\cdot\b|\\div\b|(?<=[ \t])x(?=[ \t]))"
_SIDE = rf"{_OPERAND}(?:[ \t]*{_OPERATOR}[ \t]*{_OPERAND})*+"
# Of one line. Nothing is given back (`+`), so that the time does not grow with the text's square.
_CHAIN = re.compile(rf"{_SIDE}(?:[ \t]*=[ \t]*{_SIDE})*+")
_PART = re.compile(rf"{NUMBER.pattern}|{_OPERATOR}|[()]")
_TIMES = {"*", "×", "·", "x", r"\times", r"\cdot"}
_OVER = {"/", "÷", r"\div"}
_BOLD = re.compile(r"(?<![\d)])\*\*|\*\*(?![\d(])")
_GOES_ON = re.compile(r"[\w^]|[.,]\d|[ \t]*(?:[+*/×·÷^=]|[-−][ \t]*[\w(]|\\(?![)\]]))")
"""After an equation: it is part of a longer one, which has something that is not read."""
_NEAR = 40
"""Characters before an equation that say whether it is part of a longer one."""


@dataclass(frozen=True)
class Calculation:
    """One equation of a text: what is calculated, and what is said to come out.

    Attributes:
        left: Where the left side begins and ends in the text.
        right: Where the right side does.
        value: What the left side is, exactly.
        is_right: Whether the right side says so.
    """

    left: tuple[int, int]
    right: tuple[int, int]
    value: Fraction
    is_right: bool


def calculations(text: str) -> list[Calculation]:
    r"""The equations in a text, in order. Of `2 + 3 + 4 = 5 + 4 = 9` both, each by itself.

    What comes out may be rounded to the decimals that it is written with, if it has any.

    >>> text = "1. Start with 3. 2. 3 + 4 = 7. 3. 7 + 2 = 10. <ans>10</ans>"
    >>> [(text[slice(*each.right)], each.is_right) for each in calculations(text)]
    [('7', True), ('10', False)]
    """
    return list(_calculations(text))


def wrong_steps(text: str) -> tuple[int, int]:
    """How many of a text's calculations are wrong, and how many there are.

    The step-wise error of Guiding Through Complexity (arXiv 2410.20533) is the one divided by the
    other, there counted by people.
    """
    found = calculations(text)
    return sum(not each.is_right for each in found), len(found)


def _calculations(text: str) -> Iterator[Calculation]:
    text = _BOLD.sub("  ", text)
    for match in _CHAIN.finditer(text):
        if "=" not in match.group() or _is_part(text, match.start(), match.end()):
            continue
        start, sides = match.start(), []
        for side in match.group().split("="):
            sides.append(_trimmed(text, start, start + len(side)))
            start += len(side) + 1
        for left, right in pairwise(sides):
            said, found = text[slice(*left)], text[slice(*right)]
            value, result = calculated(said), calculated(found)
            is_calculation = not NUMBER.fullmatch(said) or not NUMBER.fullmatch(found)
            if is_calculation and value is not None and result is not None:
                yield Calculation(left, right, value, _agree(value, found, result))


def _is_part(text: str, start: int, end: int) -> bool:
    near = text[max(0, start - _NEAR) : start]
    before = near.rpartition("\n")[2].strip()
    if near and (near[-1].isalnum() or near[-1] in "_.,$€£"):
        return True
    # A single sign at the start of a line opens a list; any other belongs to the equation.
    is_after_sign = len(before) > 1 and before[-1] in "+-*/×·÷−^"
    return is_after_sign or _GOES_ON.match(text, end) is not None


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """A side's place without white space, and without brackets around the whole equation."""
    side = text[start:end]
    opened = side.count("(") - side.count(")")
    for _ in range(opened):
        if side.lstrip().startswith("("):
            side = side.lstrip()[1:]
    start = end - len(side)
    for _ in range(-opened):
        if side.rstrip().endswith(")"):
            side = side.rstrip()[:-1]
    end = start + len(side)
    return end - len(side.lstrip()), start + len(side.rstrip())


def calculated(side: str) -> Fraction | None:
    """What an expression of numbers is; None if it is none, or divides by zero.

    >>> calculated("2 * (3 + 4) - 1,000 / 8")
    Fraction(-111, 1)
    """
    parts = [match.group() for match in _PART.finditer(side)][::-1]
    try:
        value = _sum(parts)
    except (IndexError, ValueError, ZeroDivisionError):
        return None
    return None if parts else value


def _sum(parts: list[str]) -> Fraction:
    """The value of the parts, the next one last, up to a bracket that closes."""
    value = _product(parts)
    while parts and parts[-1] in "+-−":
        sign = parts.pop()
        value += _product(parts) * (1 if sign == "+" else -1)
    return value


def _product(parts: list[str]) -> Fraction:
    value = _factor(parts)
    while parts and parts[-1] in _TIMES | _OVER:
        if parts.pop() in _TIMES:
            value *= _factor(parts)
        else:
            value /= _factor(parts)
    return value


def _factor(parts: list[str]) -> Fraction:
    part = parts.pop()
    if part in "-−":
        return -_factor(parts)
    if part == "(":
        value = _sum(parts)
        if parts.pop() != ")":
            raise ValueError("a bracket that does not close")
        return value
    number = NUMBER.fullmatch(part)
    if number is None:
        raise ValueError(f"{part} is not a number")
    return Fraction(number["digits"].replace(",", "")) / (100 if number["percent"] else 1)


def _agree(value: Fraction, written: str, result: Fraction) -> bool:
    number = NUMBER.fullmatch(written)
    if number is None or value == result:
        return value == result
    if number["percent"] and value == 100 * result:  # `3 / 4 * 100 = 75%`
        return True
    scale: int = 10 ** len(number["digits"].partition(".")[2]) * (100 if number["percent"] else 1)
    is_rounded = scale > 1 and (value * scale).denominator > 1
    return is_rounded and abs(value - result) * scale < 1
