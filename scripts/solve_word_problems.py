"""Solve a word problem by parsing it: an oracle that shares no code with the generator.

    solve("Tom has 3 pens and loses 2 of them. How many pens are left?") → ("subtraction", "1")

It judges the drafts of a teacher, and checks the references of the bundled splits.
"""

from __future__ import annotations

import re
from collections.abc import Callable

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


def _quotient(match: re.Match[str]) -> str | None:
    share, rest = divmod(int(match["a"]), int(match["b"]))
    return None if rest else str(share)


def _product(match: re.Match[str]) -> str | None:
    return str(int(match["a"]) * int(match["b"]))


def _day(match: re.Match[str]) -> str | None:
    day, ahead = match["day"], int(match["n"])
    return DAYS[(DAYS.index(day) + ahead) % 7] if day in DAYS else None


def _more(match: re.Match[str]) -> str | None:
    a, b = int(match["a"]), int(match["b"])
    return None if a == b or match["x"] == match["y"] else match["x"] if a > b else match["y"]


def _top(match: re.Match[str]) -> str | None:
    """The thing on top, if both facts together describe a pile."""
    upper, lower = (match["a"], match["c"]), (match["b"], match["d"])
    tops = [thing for thing in upper if thing not in lower]
    return tops[0] if len(tops) == 1 and len({*upper, *lower}) == 3 else None


def _sum(match: re.Match[str]) -> str | None:
    return str(sum(int(n) for n in match.groupdict().values() if n and n.isdigit()))


def _difference(match: re.Match[str]) -> str | None:
    a, b = int(match["a"]), int(match["b"])
    return str(a - b) if a >= b else None


# (skill, pattern, how to answer); a backreference means that a name or thing must be repeated.
READINGS: list[tuple[str, str, Callable[[re.Match[str]], str | None]]] = [
    (
        "addition",
        r"(?P<x>\w+) has (?P<a>\d+) (?P<t>\w+)\. \w+ gives (?P=x) (?P<b>\d+) more (?P=t)\. "
        r"How many (?P=t) does (?P=x) have now\?",
        _sum,
    ),
    (
        "addition",
        r"\w+ has (?P<a>\d+) (?P<t>\w+) and \w+ has (?P<b>\d+) (?P=t)\. "
        r"How many (?P=t) do they have together\?",
        _sum,
    ),
    (
        "subtraction",
        r"(?P<x>\w+) has (?P<a>\d+) (?P<t>\w+)\. (?P=x) gives (?P<b>\d+) (?P=t) to \w+\. "
        r"How many (?P=t) does (?P=x) have left\?",
        _difference,
    ),
    (
        "subtraction",
        r"\w+ has (?P<a>\d+) (?P<t>\w+) and loses (?P<b>\d+) of them\. "
        r"How many (?P=t) are left\?",
        _difference,
    ),
    (
        "multiplication",
        r"\w+ fills (?P<a>\d+) bags with (?P<b>\d+) (?P<t>\w+) each\. How many (?P=t) is that\?",
        _product,
    ),
    (
        "multiplication",
        r"(?P<x>\w+) buys (?P<a>\d+) (?P<t>\w+) a day for (?P<b>\d+) days\. "
        r"How many (?P=t) does (?P=x) buy\?",
        _product,
    ),
    (
        "division",
        r"\w+ shares (?P<a>\d+) (?P<t>\w+) equally among (?P<b>[1-9]\d*) friends\. "
        r"How many (?P=t) does each friend get\?",
        _quotient,
    ),
    (
        "division",
        r"\w+ packs (?P<a>\d+) (?P<t>\w+) into (?P<b>[1-9]\d*) equal bags\. "
        r"How many (?P=t) are in each bag\?",
        _quotient,
    ),
    (
        "two_step",
        r"(?P<x>\w+) has (?P<a>\d+) (?P<t>\w+), then finds (?P<b>\d+) (?P=t) and buys "
        r"(?P<c>\d+) (?P=t)\. How many (?P=t) does (?P=x) have at the end\?",
        _sum,
    ),
    (
        "two_step",
        r"(?P<x>\w+) picks (?P<a>\d+) (?P<t>\w+) at dawn, (?P<b>\d+) (?P=t) at noon and "
        r"(?P<c>\d+) (?P=t) at dusk\. How many (?P=t) does (?P=x) pick\?",
        _sum,
    ),
    (
        "comparison",
        r"(?P<x>\w+) has (?P<a>\d+) (?P<t>\w+) and (?P<y>\w+) has (?P<b>\d+) (?P=t)\. "
        r"Who has more (?P=t)\?",
        _more,
    ),
    (
        "comparison",
        r"(?P<x>\w+) finds (?P<a>\d+) (?P<t>\w+)\. (?P<y>\w+) finds (?P<b>\d+) (?P=t)\. "
        r"Who finds more (?P=t)\?",
        _more,
    ),
    (
        "weekday",
        r"Today is (?P<day>\w+)\. \w+ \w+ in (?P<n>\d+) days\. On what day is that\?",
        _day,
    ),
    (
        "weekday",
        r"It is (?P<day>\w+) and \w+ \w+ (?P<n>\d+) days from now\. Which day is it then\?",
        _day,
    ),
    (
        "order",
        r"\w+ makes a pile: the (?P<a>\w+) is on the (?P<b>\w+) and the (?P<c>\w+) is on the "
        r"(?P<d>\w+)\. What is on top\?",
        _top,
    ),
    (
        "order",
        r"\w+ sees that the (?P<a>\w+) is on the (?P<b>\w+) and the (?P<c>\w+) is on the "
        r"(?P<d>\w+)\. Which thing is the highest\?",
        _top,
    ),
    (
        "copy",
        r"(?P<x>\w+) (?P<v>like|want)s (?P<z>\w+ \w+)\. What does (?P=x) (?P=v)\?",
        lambda match: match["z"],
    ),
]


def solve(question: str) -> tuple[str, str] | None:
    """The skill and the answer of a well-formed question; None for one that cannot be solved."""
    for skill, pattern, answer in READINGS:
        match = re.fullmatch(pattern, question.strip())
        if match and (found := answer(match)) is not None:
            return skill, found
    return None
