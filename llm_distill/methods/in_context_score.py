"""How good a worked example is: how well a student does exams with it (ARTE, arXiv 2406.19227).

s_r, the score of a rationale, is the student's accuracy with it as the only example in context;
s_q, the score of a question, is the mean of s_r over the question's rationales.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass
class Tally:
    """Answers of one exam, counted as they come.

    n_items counts what was answered: an item that the engine failed on says nothing about who was
    examined. An answer that cannot be read is wrong, and counted in parse_failures too.
    """

    n_correct: int = 0
    n_items: int = 0
    parse_failures: int = 0
    truncated: int = 0

    def add(self, *, answer: str | None, is_correct: bool, truncated: bool) -> None:
        self.n_items += 1
        self.n_correct += is_correct
        self.parse_failures += answer is None
        self.truncated += truncated

    @property
    def score(self) -> float | None:
        """Mean accuracy in [0, 1]; None where no item was answered."""
        return self.n_correct / self.n_items if self.n_items else None


@dataclass(frozen=True)
class QuestionScore:
    """score: mean over the rationales that were scored. n_unscored: how many were not."""

    score: float
    n_scored: int
    n_unscored: int


def question_scores(
    rationale_scores: Iterable[tuple[str, float | None]],
) -> dict[str, QuestionScore]:
    """s_q by question id from (question id, s_r) pairs; s_r is None where it is not known.

    A rationale without a score (it could not be parsed) is left out of the mean: counting it as 0
    would make a question bad for the teacher's mistake. Questions with no score at all are absent.
    """
    scored: dict[str, list[float]] = defaultdict(list)
    unscored: dict[str, int] = defaultdict(int)
    for question, score in rationale_scores:
        if score is None:
            unscored[question] += 1
        else:
            scored[question].append(score)
    return {
        question: QuestionScore(sum(scores) / len(scores), len(scores), unscored[question])
        for question, scores in scored.items()
    }


def mean_by(values: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The mean of the values under each name, in order of first appearance."""
    groups: dict[str, list[float]] = defaultdict(list)
    for name, value in values:
        groups[name].append(value)
    return {name: sum(group) / len(group) for name, group in groups.items()}
