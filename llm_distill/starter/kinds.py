"""What kind of answers data has: numbers, choices, a few words, or free text. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from enum import StrEnum

from llm_distill.methods.answers import AnswerKind
from llm_distill.methods.decoration import undecorated
from llm_distill.methods.final_answer import final_answer
from llm_distill.methods.quantities import read_quantity

MOST_LABELS = 20
FEWEST_OF_A_LABEL = 4
"""As many answers as this for each different one, on average, and they are labels."""
MOST_WORDS = 6
MOST_LOOKED_AT = 1000
_LETTER = re.compile(r"[(\[]?[A-Ha-h][)\].:]?")
_FORMULA = re.compile(r"[\\^=]")


class Answers(StrEnum):
    """What answers are, and so how they are compared."""

    NUMBER = "number"
    CHOICE = "choice"
    TEXT = "text"
    FREE = "free"

    @property
    def compared_as(self) -> AnswerKind | None:
        """The comparison of `verify` and `evaluate`; None: they cannot be compared."""
        kinds: dict[str, AnswerKind] = {"number": "math", "choice": "choice", "text": "exact"}
        return kinds.get(self.value)

    @property
    def described(self) -> str:
        return {
            "number": "numbers and formulas, compared as mathematics",
            "choice": "choices, compared by their letter",
            "text": "a few words, compared as they are written",
            "free": "free text, which is graded and not compared",
        }[self.value]


def final(answers: Sequence[str]) -> list[str]:
    """The final answers, where whole solutions are given that mark them: #### 72, or a box."""
    some = answers[:MOST_LOOKED_AT]
    marked = [_marked(answer) for answer in some]
    if not some or sum(found is not None for found in marked) < 0.9 * len(some):
        return list(answers)
    return [_marked(answer) or answer for answer in answers]


def kind_of(answers: Sequence[str], has_choices: bool) -> Answers:
    """The kind of answers; of none at all, free text."""
    some = answers[:MOST_LOOKED_AT]
    if not some:
        return Answers.CHOICE if has_choices else Answers.FREE
    if has_choices or _share(some, lambda text: _LETTER.fullmatch(text) is not None) >= 0.95:
        return Answers.CHOICE
    numbers = _share(some, lambda text: read_quantity(undecorated(text)) is not None)
    short = _share(some, lambda text: len(text.split()) <= MOST_WORDS and len(text) <= 60)
    others = _share(some, lambda text: len(text) <= 60 or _FORMULA.search(text) is not None)
    if numbers >= 0.9 or (numbers >= 0.5 and others >= 0.95):
        return Answers.NUMBER
    return Answers.TEXT if short >= 0.9 else Answers.FREE


def labels_of(answers: Sequence[str], kind: Answers) -> list[str]:
    """The answers that there are, the most frequent first, if they are labels; else none."""
    if kind is not Answers.TEXT:
        return []
    counts = Counter(answers)
    is_few = len(counts) <= MOST_LABELS and FEWEST_OF_A_LABEL * len(counts) <= len(answers)
    return [label for label, _ in counts.most_common()] if is_few else []


def task_of(kind: Answers, labels: Sequence[str]) -> str:
    """What prompts open with, unless the user says it better."""
    if labels:
        return f"Answer with one of these: {', '.join(sorted(labels))}."
    return {
        "number": "Solve the problem.",
        "choice": "Answer the question with the letter of the right choice.",
        "text": "Answer the question in a few words.",
        "free": "Answer the question.",
    }[kind.value]


def _marked(answer: str) -> str | None:
    found = final_answer(answer)
    is_marked = found is not None and found.form in ("tag", "boxed", "hashes")
    return found.text if found is not None and is_marked else None


def _share(texts: Sequence[str], holds: Callable[[str], bool]) -> float:
    return sum(map(holds, texts)) / len(texts)
