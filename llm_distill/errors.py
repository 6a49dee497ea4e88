"""Errors that a user can act on. The command line prints them without a traceback.

Each message says what is wrong, where (file, place, row id), what is allowed and what to do.
Any other exception that escapes is a bug in llm-distill and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from llm_distill.secrets import without_secrets

MOST_LISTED = 40
FEW, MOST_AFTER_HINT = 5, 10
"""Names of a long list that are shown once it has been said which was meant."""
LONGEST_LINE = 1200
"""Characters of a message: with 40 names of columns, but not with a cell of a table."""

EXIT_CODES = {
    0: "done",
    1: "a bug in llm-distill: please report it with its traceback",
    2: "the pipeline file or the command is wrong, or a package is missing",
    3: "the data: a missing column, a null, a stage without rows",
    4: "a model: not found, unsafe, too large, or unable to do what is asked",
    5: "the workspace: not writable, full, damaged, or without what is needed",
    6: "the budget: the next request could cost more than --max-cost leaves",
    7: "the Hub: no token, refused, or out of reach",
    8: "a gate: a model is not good enough to go on with",
    130: "stopped by Ctrl-C, by SIGTERM, or because the terminal was closed",
}


class LLMDistillError(Exception):
    """Base of every error that a user can fix. `exit_code` is the process's.

    A message is printed and kept in the run's record and log, so it is without secrets, and a line
    that quotes a book is cut: it begins with the place and ends with what to do.

    problems: each of them, where the message names several.
    """

    exit_code = 1
    problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = super().__str__().split("\n")
        return "\n".join(shortened(line, LONGEST_LINE) for line in lines)


class ConfigError(LLMDistillError):
    """The pipeline file, an override or the command line is wrong. Nothing has run."""

    exit_code = 2


class DataError(LLMDistillError):
    """Rows that a stage cannot work with: a missing column, a null, an empty dataset."""

    exit_code = 3


class ModelError(LLMDistillError):
    """A model that cannot be found, is unsafe to load, or cannot do what is asked of it."""

    exit_code = 4


class WorkspaceError(LLMDistillError):
    """The workspace cannot be written to, or something in it cannot be used."""

    exit_code = 5


class BudgetError(LLMDistillError):
    """The next request could cost more than `--max-cost` leaves. Answers so far are kept."""

    exit_code = 6


class HubError(LLMDistillError):
    """The Hub refuses a push, or cannot be reached. What has been uploaded stays there."""

    exit_code = 7


class GateError(LLMDistillError):
    """A stage `gate` does not let a model pass. What was measured is in the message."""

    exit_code = 8


def nearest(name: str, allowed: Iterable[str]) -> str:
    """The end of a message: the nearest allowed name if there is one, then up to 40 of all.

    Of many, only the nearest follow on one that was meant. Names from a user's file may be numbers
    or null.
    """
    names = sorted(map(str, allowed))
    close = get_close_matches(str(name), names, n=1, cutoff=0.6)
    hint = f"did you mean '{close[0]}'? " if close else ""
    shown = names[:MOST_LISTED]
    if close and len(names) > MOST_AFTER_HINT:
        shown = get_close_matches(str(name), names, n=FEW, cutoff=0)
    listed = ", ".join(shown) if names else "none"
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"{hint}allowed: {listed}{more}"


def shortened(text: str, most: int) -> str:
    """The text without secrets, its middle cut out where it is long."""
    text = without_secrets(text)  # before it is cut: of half a secret nothing can be told
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 2 :]}"


def quoted(value: object, most: int = 60) -> str:
    """A value as Python writes it, cut: a cell can hold a book."""
    text = without_secrets(repr(value))
    return text if len(text) <= most else f"{text[: most - 3]}..."


def sized(n_bytes: float) -> str:
    """`16.1 GB`, `3.5 MB`, `12 B`: a kB has 1000 bytes."""
    value = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"


def few(names: Sequence[str], most: int = 5) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def counted(n: int, noun: str) -> str:
    """`1 row`, `1,200 rows`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def first_line(error: BaseException) -> str:
    """The first line of what a library says, or the error's type: they go on for paragraphs."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
