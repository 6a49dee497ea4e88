"""Which questions are difficult for a student, by its answers, with and without references.

Each rule returns the reason why a question is difficult, or None if it is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import fsum
from typing import Any

from llm_distill.methods.answers import AnswerKind
from llm_distill.methods.sampled_answers import answer_groups

NO_ANSWER = "no answer"
WRONG_ANSWER = "wrong answer"
NO_AGREEMENT = "answers disagree"
LAST_STEP = "last step"
MEAN = "mean of the steps"
EARLIER_STEP = "earlier step"


def by_reference(answer: str | None, is_correct: bool) -> str | None:
    """Difficult if the answer is wrong; None and a blank one count as no answer."""
    if _is_none(answer):
        return NO_ANSWER
    return None if is_correct else WRONG_ANSWER


def by_consistency(
    answers: Sequence[str | None], kind: AnswerKind = "exact", least_votes: int = 2
) -> str | None:
    """Difficult if fewer than `least_votes` of the sampled answers are equal; STAT has 2 of 5.

    Answers that could not be read (None, blank) agree with nothing, not even with each other.
    """
    if all(_is_none(answer) for answer in answers):
        return NO_ANSWER
    most = max(map(len, answer_groups(answers, kind)))
    return NO_AGREEMENT if most < least_votes else None


def by_rewards(
    answer: str | None,
    rewards: Sequence[float],
    answer_threshold: float = 0.85,
    step_threshold: float = 0.7,
) -> str | None:
    """Difficult if a process reward model doubts the answer or one of its steps.

    That is if the last step's reward or the mean is at most `answer_threshold`, or that of any
    other step at most `step_threshold` (τ1 and τ2 of STAT); the first that holds is the reason. A
    missing answer, or one without steps, is difficult.
    """
    if _is_none(answer) or not rewards:
        return NO_ANSWER
    if rewards[-1] <= answer_threshold:
        return LAST_STEP
    if fsum(rewards) / len(rewards) <= answer_threshold:
        return MEAN
    if any(reward <= step_threshold for reward in rewards[:-1]):
        return EARLIER_STEP
    return None


@dataclass
class Verdicts:
    """Counts verdicts, and how often they equal the references' own."""

    n: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    n_with_reference: int = 0
    n_correct: int = 0
    n_as_reference: int = 0

    def add(self, reason: str | None, is_correct: bool | None) -> None:
        """Count one verdict; `is_correct` is None if there is no reference."""
        self.n += 1
        if reason is not None:
            self.reasons[reason] += 1
        if is_correct is not None:
            self.n_with_reference += 1
            self.n_correct += is_correct
            self.n_as_reference += (reason is None) == is_correct

    def figures(self) -> dict[str, Any]:
        """The counts and shares for the manifest; a share of nothing is None.

        verdict_accuracy: of the answers that have a reference, the share whose verdict (difficult
        or not) is the reference's (wrong or right).
        """
        n_difficult = self.reasons.total()
        return {
            "n": self.n,
            "n_difficult": n_difficult,
            "share_difficult": _share(n_difficult, self.n),
            "reasons": dict(self.reasons.most_common()),
            "n_with_reference": self.n_with_reference,
            "accuracy": _share(self.n_correct, self.n_with_reference),
            "verdict_accuracy": _share(self.n_as_reference, self.n_with_reference),
        }


def _share(count: int, n: int) -> float | None:
    return count / n if n else None


def _is_none(answer: str | None) -> bool:
    return answer is None or not answer.strip()
