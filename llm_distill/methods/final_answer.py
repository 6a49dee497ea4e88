r"""The final answer of a text that was not asked for a form, or does not keep to it. Pure.

Small models know more than they put into a tag: of SmolLM2's answers to the bundled problems none
has `<ans>…</ans>`, and many end in "The answer is 12." An exam that reads tags only measures the
form of the answers, and not the skill.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from llm_distill.methods.decoration import boxed, undecorated
from llm_distill.methods.parsing import read_tag
from llm_distill.methods.quantities import read_quantity

ANSWER_TAG = "ans"
AnswerForm = Literal["tag", "boxed", "hashes", "sentence", "whole", "number"]

_FEW_WORDS = 4
_ANOTHER_QUESTION = re.compile(r"\n\s*Question\s*:")
_HASHES = re.compile(r"^[ \t]*#{4,}[ \t]*(?:answer[ \t]*:?[ \t]*)?(\S[^\n]*)$", re.I | re.M)
_STEP = re.compile(r"(?:step|part|stage|method)\b", re.IGNORECASE)
# Whatever stands between "answer" and what it is: typography, the opening of displayed mathematics.
_GAP = (
    r"[*_\s]*(?:\b(?:is|are|was|would\s+be|will\s+be)\b|:|=|-\s)[*_\s:=]*"
    r"(?:(?:\\\[|\$\$|```|[-•])\s*)*"
)
_ANSWER, _OTHER = (
    re.compile(rf"(?<![A-Za-z])(?:{nouns})(?![A-Za-z]){_GAP}(?=(?P<said>[^\n]+))", re.IGNORECASE)
    for nouns in ("answers?", "results?|options?|choices?|totals?")
)
_NO_ANSWER = re.compile(
    r"(?:in)?correct|(?:right|wrong|true|false|clear|reasonable|valid|consistent|obtained|found)\b"
    r"|(?:given|calculated|based|as\s+follows|the\s+same)\b",
    re.IGNORECASE,
)
_LISTED = re.compile(r"\d+\.\s+[A-Za-z]")
_END_OF_SENTENCE = re.compile(
    r"(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bDr)(?<!\bSt)(?<!\bapprox)[.!?;](?=\s|$)"
)
_NUMBER = re.compile(
    r"\\[dt]?frac\s*\{[^{}]*\}\s*\{[^{}]*\}"  # a fraction
    r"|(?<![\w./:-])\d{1,4}([-/.])\d{1,2}\1\d{1,4}(?![\w/-])"  # a date
    r"|(?<![\w.:])\d{1,2}:\d{2}(?!\d)"  # a time
    r"|(?<![\w.])[-−]?[$€£]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:(?:\s+\d+)?\s*/\s*\d+)?\s*%?"
)


class FinalAnswer(NamedTuple):
    """An answer, and the form in which it was found."""

    text: str
    form: AnswerForm


def final_answer(text: str, ended: bool = True) -> FinalAnswer | None:
    r"""The final answer, by the most explicit form that the text has; None without any.

    In this order: the first `<ans>…</ans>`; the last `\boxed{…}`; the last line that begins with
    `####` and is no heading, as GSM8K's answers do; the last "answer is …" or "Answer: …" (or, of
    a text without one, "result is …"); a text of at most four words as a whole; the last number.
    Of a sentence that says more than a quantity ("5 because 3 + 2 = 5") it is the last number.
    What comes after another "Question:" does not count.

    Args:
        text: What a model wrote, without its thoughts.
        ended: The model ended by itself. Of a text that was cut neither the last line counts, which
            may have been cut as well, nor the last two forms.

    >>> final_answer("4 * 7 = 28, so she buys 28 socks.")
    FinalAnswer(text='28', form='number')
    """
    tagged = read_tag(text, ANSWER_TAG, ended)
    if tagged:
        return FinalAnswer(tagged, "tag")
    text = _ANOTHER_QUESTION.split(text.strip(), maxsplit=1)[0]
    inner = boxed(text)
    if inner is not text and inner.strip():
        return FinalAnswer(inner.strip(), "boxed")
    whole_lines = text if ended else text.rpartition("\n")[0]
    marked = [_bare(line) for line in _HASHES.findall(whole_lines) if not _STEP.match(line)]
    marked = [line for line in marked if line and len(line.split()) <= _FEW_WORDS]
    if marked:
        return FinalAnswer(marked[-1], "hashes")
    for pattern in (_ANSWER, _OTHER):
        said = list(_said(pattern, text if ended else whole_lines))
        if said:
            return FinalAnswer(_quantity_of(said[-1]), "sentence")
    if not ended:
        return None
    whole = _bare(text)
    if re.search(r"\w", whole) and len(whole.split()) <= _FEW_WORDS and "\n" not in whole:
        return FinalAnswer(_quantity_of(whole), "whole")
    number = _last_number(text)
    return FinalAnswer(number, "number") if number else None


def _said(pattern: re.Pattern[str], text: str) -> Iterator[str]:
    """What is said to be the answer, each time; "the answer is correct" says nothing."""
    for found in pattern.finditer(text):
        said = found["said"]
        end = _END_OF_SENTENCE.search(said)
        clause = _bare(said[: end.start()] if end else said)
        begins_a_list = _LISTED.match(said) and text[: found.start("said")].endswith("\n")
        if re.search(r"\w", clause) and not _NO_ANSWER.match(said) and not begins_a_list:
            yield clause


def _quantity_of(clause: str) -> str:
    """The clause, if it is a quantity, a list of them or has no number; else its last number."""
    parts = [
        part for part in re.split(r",\s*(?:and|or)\s|[,;]\s|\s(?:and|or)\s", clause) if part.strip()
    ]
    if all(read_quantity(undecorated(part.strip())) is not None for part in parts):
        return clause
    return _last_number(clause) or clause


def numbers(text: str) -> list[str]:
    """All numbers of a text as they are written, dates and times as one each.

    >>> numbers("From 9:30 on -3.5 of 1,200 m, or 1/2.")
    ['9:30', '-3.5', '1,200', '1/2']
    """
    return [match[0].strip() for match in _NUMBER.finditer(text)]


def _last_number(text: str) -> str | None:
    found = numbers(text)
    return found[-1] if found else None


def _bare(text: str) -> str:
    return text.replace("**", "").strip("*_` \n").rstrip(".,;:! ")


def why_mostly_unreadable(n_unreadable: int, n: int, reads_any: bool) -> str | None:
    """What to tell a user of whose answers more than half cannot be read; None for others.

    reads_any: whether answers are read in any form already.
    """
    if not n or n_unreadable <= n / 2:
        return None
    remedy = "show" if reads_any else "set answer_in: any, or show"
    return (
        f"{n_unreadable} of {n} answers cannot be read, so this exam measures the form, not the "
        f"skill; {remedy} the form in the template or in worked examples"
    )
