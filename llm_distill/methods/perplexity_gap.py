"""How far a student lags behind its teacher on texts that both have scored (DDK's ρ). Pure.

Of "DDK: Distilling Domain Knowledge for Efficient Large Language Models", arXiv 2407.16154: the
ratio of perplexities, not of losses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp
from typing import Literal

from llm_distill.methods.statistics import ratio_of_sums

Unit = Literal["token", "byte"]
MOST_NLL = 700.0
"""exp() of more is no number."""


@dataclass(frozen=True)
class ScoredText:
    """What both models say of a text: summed -log p in nats, tokens of either, and its bytes."""

    student: float
    teacher: float
    n_tokens: int
    n_teacher_tokens: int
    n_bytes: int

    def sizes(self, unit: Unit) -> tuple[int, int]:
        """Its units for the student and for the teacher."""
        if unit == "byte":
            return self.n_bytes, self.n_bytes
        return self.n_tokens, self.n_teacher_tokens


@dataclass(frozen=True)
class Gap:
    """Perplexities, and ρ = student / teacher with its 95 % interval over texts; None: none.

    n_units: of the student, over all texts.
    """

    student: float
    teacher: float
    ratio: float
    low: float | None
    high: float | None
    n_units: int


def common_unit(texts: Iterable[ScoredText]) -> Unit:
    """Tokens where both models cut each text into as many, else bytes.

    Tokens of two tokenizers are not of one size, so their perplexities cannot be divided.
    """
    alike = all(text.n_tokens == text.n_teacher_tokens for text in texts)
    return "token" if alike else "byte"


def gap_of(texts: Sequence[ScoredText], unit: Unit) -> Gap:
    """ρ = exp(Σ -log q / N_S − Σ -log p / N_T) over the texts of a domain.

    The interval is the bootstrap's over texts, which are drawn whole; there is none for one text,
    or where the models have other numbers of units.

    Raises:
        ValueError: there are no texts or units, or a perplexity is no number.
    """
    sizes = [text.sizes(unit) for text in texts]
    n_student, n_teacher = sum(ours for ours, _ in sizes), sum(theirs for _, theirs in sizes)
    if not n_student or not n_teacher:
        raise ValueError(f"its texts have no {unit}")
    student = sum(text.student for text in texts) / n_student
    teacher = sum(text.teacher for text in texts) / n_teacher
    if not max(abs(student), abs(teacher), abs(student - teacher)) < MOST_NLL:
        raise ValueError(
            f"-log p is {student:g} a {unit} for the student and {teacher:g} for the teacher, "
            "whose perplexity is no number"
        )
    low: float | None = None
    high: float | None = None
    if len(texts) > 1 and all(ours == theirs > 0 for ours, theirs in sizes):
        pairs = [(t.student - t.teacher, n) for t, (n, _) in zip(texts, sizes, strict=True)]
        interval = ratio_of_sums(pairs)
        low, high = exp(interval.low), exp(interval.high)
    return Gap(exp(student), exp(teacher), exp(student - teacher), low, high, n_student)
