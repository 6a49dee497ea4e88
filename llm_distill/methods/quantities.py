"""Numbers as people write them, with what stands around them, exactly. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from llm_distill.methods.units import Unit, read_unit

LONGEST = 300
"""Characters; a longer text is not read as a number."""

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d{1,3}(?:'\d{3})+|\d+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.\d*)?|\.\d+)"
_POWER = r"(?:[eE]|\s*(?:\\times|\\cdot|×|·|\*|x)\s*10\s*(?:\^|\*\*)\s*\{?\(?\s*)"
_NUMBER = re.compile(
    r"(?P<sign>[-+]?)\s*"
    r"(?P<currency>[€£¥₹$]?)\s*"
    r"(?:"
    rf"(?P<whole>\d+)\s*\\frac\{{\s*(?P<a>\d+)\s*\}}\{{\s*(?P<b>\d+)\s*\}}"
    r"|(?P<whole2>\d+) (?P<a2>\d+)/(?P<b2>\d+)"
    rf"|\\frac\{{\s*(?P<above>-?{_DECIMAL})\s*\}}\{{\s*(?P<below>{_DECIMAL})\s*\}}"
    rf"|(?P<over>{_DECIMAL})\s*/\s*(?P<under>{_DECIMAL})"
    rf"|(?P<decimal>{_DECIMAL})(?:{_POWER}(?P<exponent>[-+]?\s*\d{{1,4}})\s*\)?\}}?)?"
    r")"
    r"(?P<rest>.*)",
    re.DOTALL,
)
_TIMES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
# After a number these mean that it is a part of something else.
_NOT_A_UNIT = re.compile(
    r"\b(?:or|and|to|by|mod|over|plus|minus|times|divided|than|not|if|where|when|for|base|choose"
    r"|squared|cubed|remainder|percent|sin|cos|tan|log|ln|exp|sqrt|pi|inf|infinity)\b"
)
_WORDS = re.compile(r"[^\W\d_]+(?:[ -][^\W\d_]+){0,7}")


@dataclass(frozen=True)
class Quantity:
    """A number and what it counts.

    Attributes:
        value: The number, exactly.
        terminates: Whether it was written as whole numbers or a decimal, so that it is exact.
        units: What the text after it can stand for; none where it names no unit.
        words: The words after it where they are not a unit, in lower case without plural `s`.
    """

    value: Fraction
    terminates: bool = True
    units: tuple[Unit, ...] = ()
    words: frozenset[str] = frozenset()


def read_quantity(text: str) -> Quantity | None:
    """The number that a text without decoration is, with its unit; None where it is not one.

    >>> read_quantity("1,000 m").value
    Fraction(1000, 1)
    """
    if len(text) > LONGEST:
        return None
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        return None
    value = _value(match)
    if value is None:
        return None
    if match["sign"] == "-":
        value = -value
    rest, currency = match["rest"], match["currency"]
    terminates = _terminates(value)
    first, _, after = rest.strip().partition(" ")
    if first.casefold() in _TIMES:
        value, rest = value * _TIMES[first.casefold()], f" {after}"
    if not rest.strip():
        return Quantity(value, terminates, read_unit(currency))
    units = _units_after(rest)
    if currency and (units or rest[0].isalnum()):
        units = tuple(unit for unit in units if unit in read_unit(currency))
        return Quantity(value, terminates, units) if units else None
    if units:
        return Quantity(value, terminates, units)
    words = rest.strip().casefold()
    if not rest[0].isspace() or not _WORDS.fullmatch(words):
        return None
    named = re.split("[ -]", words)
    if _NOT_A_UNIT.search(words) or len(named[0]) < 2:
        return None
    stems = frozenset(word.removesuffix("s") for word in named)
    return Quantity(value, terminates, read_unit(currency), stems)


def equal_quantities(a: Quantity, b: Quantity, tolerance: float) -> bool:
    """Whether they are the same amount.

    Where both have a unit these are compared: `1 m` is `100 cm` and not `1 km`. Where one has none,
    the numbers are; a percentage without its sign is the number or the share.

    Args:
        a: A quantity.
        b: Another.
        tolerance: Relative, for numbers of which one cannot be written as a decimal.
    """

    def same(x: Fraction, y: Fraction) -> bool:
        if a.terminates and b.terminates:
            return x == y
        return abs(x - y) <= Fraction(tolerance) * max(abs(x), abs(y))

    if a.units and b.units:
        return any(
            x.dimension == y.dimension and same(a.value * x.factor, b.value * y.factor)
            for x in a.units
            for y in b.units
        )
    if (a.units and b.words) or (b.units and a.words):
        return False
    if a.words and b.words and not (a.words <= b.words or b.words <= a.words):
        return False
    if same(a.value, b.value):
        return True
    percents = read_unit("%")
    return (a.units == percents and same(a.value / 100, b.value)) or (
        b.units == percents and same(a.value, b.value / 100)
    )


def _value(match: re.Match[str]) -> Fraction | None:
    def number(name: str) -> Fraction:
        return Fraction(re.sub("[, ']", "", match[name]).removesuffix("."))

    if match["decimal"] is not None:
        exponent = int((match["exponent"] or "0").replace(" ", ""))
        return number("decimal") * Fraction(10) ** exponent
    whole = next((name for name in ("whole", "whole2") if match[name] is not None), None)
    pairs = (("a", "b"), ("a2", "b2"), ("above", "below"), ("over", "under"))
    above, below = next(pair for pair in pairs if match[pair[0]] is not None)
    if number(below) == 0:
        return None
    return (number(whole) if whole else 0) + number(above) / number(below)


def _units_after(rest: str) -> tuple[Unit, ...]:
    """A unit of one letter needs a space before it: `5m` is five times m, `5 m` a length."""
    unit = rest.strip()
    if not rest[0].isspace() and len(unit) == 1 and unit.isalpha():
        return ()
    return read_unit(re.sub(r"\bper cent\b", "percent", unit))


def _terminates(value: Fraction) -> bool:
    below = value.denominator
    for prime in (2, 5):
        while below % prime == 0:
            below //= prime
    return below == 1
