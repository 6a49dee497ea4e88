r"""Whether two answers are the same mathematics: exact where that is possible. Pure.

What is deliberately not equal: a range and a difference (`10-15`), a ratio and a quotient (`3:2`),
dates and times and anything else than themselves, words in another order (`AB`, `BA`), a list and
one of its numbers, different units that both stand there, decimals that differ in any place.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from llm_distill.methods.decoration import boxed, undecorated
from llm_distill.methods.expressions import ENDLESS, equal_expressions
from llm_distill.methods.quantities import LONGEST, equal_quantities, read_quantity

TOLERANCE = 1e-6
"""Relative, where one of two numbers cannot be written as a decimal, such as 1/3 or π."""
_NAMED = re.compile(r"\s*(?P<name>[A-Za-z](?:\s*\(\s*[A-Za-z]\s*\))?)\s*(?:=(?!=)|\\in\b|∈)\s*")
_DATE = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}")
_TIME = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?\s*([ap])?\.?\s*(?:m\.?)?", re.IGNORECASE)
_RATIO = re.compile(r"-?[\d.]+(?:\s*:\s*-?[\d.]+)+")
_RANGE = re.compile(r"(?P<low>[^-]+?)\s*(?:-|\bto\b)\s*(?P<high>\S.*)", re.DOTALL)
_BASED = re.compile(r"\w+_\{?\d+\}?")
_LATEX_COMMAND = re.compile(r"\\[A-Za-z]+")
_WORD = re.compile(r"[^\W\d_]{2,}")
_FUNCTION = re.compile(
    r"(?:a|arc)?(?:sin|cos|tan|cot|sec|csc)h?|log|ln|lg|exp|sqrt|abs|mod|gcd|lcm|max|min|det|pi"
    r"|inf|infty|infinity",
    re.IGNORECASE,
)
_OPEN, _CLOSE = "([{", ")]}"


def equal_as_math(answer: str, reference: str, tolerance: float = TOLERANCE) -> bool:
    r"""Whether two answers are equal as numbers with units, lists, intervals or expressions.

    Of a whole solution, as MATH's are, the last `\boxed{…}` counts. Expressions that cannot be
    worked out in reasonable time are compared as text only.

    Args:
        answer: What a model wrote.
        reference: What is right.
        tolerance: Relative; only where one of two numbers cannot be written as a decimal.
    """
    return _equal(undecorated(boxed(answer)), undecorated(boxed(reference)), tolerance)


def _equal(answer: str, reference: str, tolerance: float) -> bool:
    if not answer or not reference:
        return False
    if _plain(answer) == _plain(reference):
        return True
    texts = (answer, reference)
    if any(len(text) > LONGEST for text in texts):
        return False
    verdict = _by_form(answer, reference, lambda a, b: _equal(a, b, tolerance))
    if verdict is not None:
        return verdict
    a, b = (read_quantity(text) for text in texts)
    if a is not None and b is not None:
        return equal_quantities(a, b, tolerance)
    if any(ENDLESS.search(text) or _is_words(text) for text in texts):
        return False
    return equal_expressions(answer, reference, tolerance)


def _by_form(answer: str, reference: str, equal: Callable[[str, str], bool]) -> bool | None:
    """By what the texts are made of; None where both are a single number or expression."""
    for pattern in (_DATE, _TIME, _RATIO, _BASED):
        parts = [pattern.fullmatch(text) for text in (answer, reference)]
        if any(parts):
            return all(parts) and _canonical(answer) == _canonical(reference)
    lists = [_listed(text) for text in (answer, reference)]
    if any(len(items) > 1 for items in lists):
        return _same_items(lists[0], lists[1], equal)
    named = [_NAMED.match(text) for text in (answer, reference)]
    if any(named):
        a, b = (m["name"].replace(" ", "") if m else None for m in named)
        if a is not None and b is not None and a != b:
            return False
        bare = [t[m.end() :] if m else t for t, m in zip((answer, reference), named, strict=True)]
        return equal(*bare)
    brackets = [_bracketed(text) for text in (answer, reference)]
    if all(brackets):
        (one, a, end), (other, b, other_end) = brackets  # type: ignore[misc]
        if (one, end) != (other, other_end):
            return False
        if one == r"\{":
            return _same_items(a, b, equal)
        return len(a) == len(b) and all(map(equal, a, b))
    ranges = [_range(text) for text in (answer, reference)]
    if ranges[0] and ranges[1]:
        return all(map(equal, ranges[0], ranges[1]))
    if any(ranges) and any(read_quantity(text) for text in (answer, reference)):
        return False
    return None


def _range(text: str) -> tuple[str, str] | None:
    """The ends of `10-15 km`, which are numbers; of `x-2` and `2^3-1` there are none."""
    match = None if read_quantity(text) else _RANGE.fullmatch(text)
    ends = (match["low"].strip(), match["high"].strip()) if match else None
    return ends if ends and all(read_quantity(end) for end in ends) else None


def _same_items(a: list[str], b: list[str], equal: Callable[[str, str], bool]) -> bool:
    """In any order: the roots `2, 3` are the roots `3, 2`."""
    left = list(b)
    for item in a:
        found = next((other for other in left if equal(item, other)), None)
        if found is None:
            return False
        left.remove(found)
    return not left


def _plain(text: str) -> str:
    return re.sub(r"\s*([^\w\s])\s*", r"\1", text.casefold()).strip()


def _canonical(text: str) -> str:
    """Dates, times and numbers with a base without what they can be written with or without."""
    return re.sub(r"(?<!\d)0+(?=\d)|[\s{}]|(?<=\d)\.?(?=[ap])|(?<=[ap])[.m]+$", "", text.casefold())


def _listed(text: str) -> list[str]:
    r"""The parts of a list at its own level: of `2, 3`, `2 or 3`, `1; 2`, `\pm 2`."""
    signs = re.search(r"\\pm|±|\+/-", text)
    if signs:
        before, after = text[: signs.start()].strip(), text[signs.end() :]
        return [f"{before}{sign}{after}" for sign in ("+" if before else "", "-")]
    if read_quantity(text) is not None:
        return [text]
    parts, depth, start = [], 0, 0
    for match in re.finditer(r"[(\[{]|[)\]}]|[,;]|\s(?:and|or)\s", text):
        if match[0] in _OPEN:
            depth += 1
        elif match[0] in _CLOSE:
            depth -= 1
        elif depth == 0:
            parts.append(text[start : match.start()])
            start = match.end()
    return [part.strip() for part in (*parts, text[start:]) if part.strip()]


def _bracketed(text: str) -> tuple[str, list[str], str] | None:
    r"""The brackets of an interval, a tuple or a set and what is in them: `(`, [`0`, `1`], `]`."""
    match = re.fullmatch(r"(\\\{|[(\[])(.*?)(\\\}|[)\]])", text, re.DOTALL)
    if match is None:
        return None
    inner = _listed(match[2])
    return (match[1], inner, match[3]) if match[1] == r"\{" or len(inner) > 1 else None


def _is_words(text: str) -> bool:
    """Whether it has words, which are not products of their letters, as in `2ab`."""
    bare = _LATEX_COMMAND.sub("+", text)
    return any(
        not _FUNCTION.fullmatch(match[0]) and _is_a_word(bare, match)
        for match in _WORD.finditer(bare)
    )


def _is_a_word(text: str, found: re.Match[str]) -> bool:
    """Letters that are not a product: long ones, names of points (`AB`), and what stands alone."""
    before, after = text[: found.start()].rstrip()[-1:], text[found.end() :].lstrip()[:1]
    alone = not before and not after
    return len(found[0]) > 3 or found[0].isupper() or alone or before.isalpha() or after.isalpha()
