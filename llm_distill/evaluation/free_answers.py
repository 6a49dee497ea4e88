"""Tells an exam of free answers, whose accuracy says nothing, from one of numbers or names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from llm_distill.evaluation.result_rows import ExamRow
from llm_distill.methods.answers import AnswerKind
from llm_distill.methods.words import words

NEARLY_NOTHING = 0.05
"""An accuracy up to this, of every model, is no result of an exam of free answers."""
FEWEST_WORDS = 4
"""A text with as many is a sentence or so, which two people would word differently."""
COMPARED_IN_PARTS: tuple[AnswerKind, ...] = ("choice", "tool_call")

_COMMAND = re.compile(r"\\[A-Za-z]+")


class FreeAnswers:
    """Looks at references and answers, as they come. kind: how they are compared."""

    def __init__(self, kind: AnswerKind) -> None:
        self._kind = kind
        self._references: dict[str, tuple[bool, bool]] = {}
        self._answers = self._free_answers = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Take a row of `evaluate`."""
        if row["parent_id"] not in self._references:
            reference = str(row["reference_answer"])
            is_name = not re.search(r"\d", reference) and bool(_plain_words(reference))
            self._references[row["parent_id"]] = is_free(reference), is_name
        if row["answer"] is not None:
            self._answers += 1
            self._free_answers += is_free(row["answer"])

    @property
    def _free_references(self) -> bool:
        return 2 * sum(free for free, _ in self._references.values()) > len(self._references)

    @property
    def _long_answers(self) -> bool:
        """Sentences where a name is wanted."""
        names = sum(is_name for _, is_name in self._references.values())
        return 2 * self._free_answers > self._answers and 2 * names > len(self._references)

    def note(self, exam: Sequence[ExamRow], is_measured: bool) -> str | None:
        """What to know of the accuracies, and what to set; None where they are what they say.

        is_measured: whether text measures or a judge have looked at the answers too.
        """
        highest = max((row.accuracy for row in exam), default=1.0)
        if self._kind in COMPARED_IN_PARTS or highest > NEARLY_NOTHING:
            return None
        if self._free_references:
            what = "the references are free text"
        elif self._long_answers:
            what = "the answers are whole sentences"
        else:
            return None
        said = (
            f"an accuracy of {highest:.1%} says little: {what}, and an answer counts only where it "
            "is worded as its reference"
        )
        if is_measured:
            return f"{said}; go by the other figures"
        kind = "" if self._kind == "text" else "answer_kind: text and "
        return (
            f"{said}; set {kind}measures: [token_f1, rouge_l], or have a model grade the answers "
            "with judge: {model: …}; see docs/judging.md"
        )


def is_free(text: str) -> bool:
    """Whether it has the words of a sentence; numbers, signs and LaTeX's commands are none.

    >>> is_free("Within 30 days, with the receipt."), is_free("\\\\frac{1}{2} cm"), is_free("1 a b")
    (True, False, False)
    """
    return len(_plain_words(text)) >= FEWEST_WORDS


def _plain_words(text: str) -> list[str]:
    found = words(_COMMAND.sub(" ", text))
    return [word for word in found if word.isalpha() and (len(word) > 1 or not word.isascii())]
