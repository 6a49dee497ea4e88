r"""The final answer of a text that was not asked for a form, or does not keep to it. Pure.

Small models know more than they put into a tag: of SmolLM2's answers to the bundled problems none
has `<ans>…</ans>`, and many end in "The answer is 12." An exam that reads tags only measures the
form of the answers, and not the skill.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from llm_distill.methods.decoration import boxed
from llm_distill.methods.parsing import read_tag

ANSWER_TAG = "ans"
AnswerForm = Literal["tag", "boxed", "hashes", "sentence", "whole", "number"]

_HASHES = re.compile(r"^\s*#{4,}\s*(?:answer\s*:?\s*)?(\S.*?)\s*$", re.IGNORECASE | re.MULTILINE)
_SENTENCE = re.compile(
    r"\b(?:answer|result)\b[*_\s]*(?:is|are|was|:|=)[:=]?[*_\s]*(?:that\s+)?(?P<said>[^\n]+)",
    re.IGNORECASE,
)
_END_OF_SENTENCE = re.compile(r"[.!?;](?=\s|$)")
_NUMBER = re.compile(r"(?<![\w.])[-−]?\$?\d[\d,]*(?:\.\d+)?(?:/\d+)?")
_FEW_WORDS = 4


class FinalAnswer(NamedTuple):
    """An answer, and the form in which it was found."""

    text: str
    form: AnswerForm


def final_answer(text: str, ended: bool = True) -> FinalAnswer | None:
    r"""The final answer, by the most explicit form that the text has; None without any.

    In this order: the first `<ans>…</ans>`; the last `\boxed{…}`; the last line that begins with
    `####`, as GSM8K's answers do; the last "answer is …" or "Answer: …"; a text of at most four
    words as a whole; the last number.

    Args:
        text: What a model wrote, without its thoughts.
        ended: The model ended by itself. The last two forms count only then: the last number of a
            text that was cut belongs to the way, and is not the answer.

    >>> final_answer("4 * 7 = 28, so she buys 28 socks.")
    FinalAnswer(text='28', form='number')
    """
    tagged = read_tag(text, ANSWER_TAG, ended)
    if tagged:
        return FinalAnswer(tagged, "tag")
    inner = boxed(text)
    if inner is not text and inner.strip():
        return FinalAnswer(inner.strip(), "boxed")
    marked = _HASHES.findall(text)
    if marked:
        return FinalAnswer(_bare(marked[-1]), "hashes")
    said = [_clause(found["said"]) for found in _SENTENCE.finditer(text)]
    if any(said):
        return FinalAnswer([each for each in said if each][-1], "sentence")
    if not ended:
        return None
    whole = _bare(text)
    if re.search(r"\w", whole) and len(whole.split()) <= _FEW_WORDS and "\n" not in whole:
        return FinalAnswer(whole, "whole")
    numbers = _NUMBER.findall(text)
    return FinalAnswer(numbers[-1], "number") if numbers else None


def _clause(said: str) -> str:
    """Up to the end of the sentence, without typography."""
    end = _END_OF_SENTENCE.search(said)
    return _bare(said[: end.start()] if end else said)


def _bare(text: str) -> str:
    return text.replace("**", "").strip("*_` \n").rstrip(".,;:! ")


def why_mostly_unreadable(n_unreadable: int, n: int) -> str | None:
    """What to tell a user of whose answers more than half cannot be read; None for others."""
    if not n or n_unreadable <= n / 2:
        return None
    return (
        f"{n_unreadable} of {n} answers cannot be read, so this exam measures the form, not the "
        "skill; set answer_in: any, or show the form in the template or in worked examples"
    )
