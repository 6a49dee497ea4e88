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
    """Counts of the answers to one exam.

    n_items counts what was answered: an item on which the engine failed says nothing about the
    student. An answer that cannot be read is wrong, and also counted in parse_failures.
    """

    n_correct: int = 0
    n_items: int = 0
    parse_failures: int = 0

    def add(self, verdict: bool | None) -> None:
        """Count an answer: right, wrong, or None, unreadable."""
        self.n_items += 1
        self.n_correct += verdict is True
        self.parse_failures += verdict is None

    @property
    def score(self) -> float | None:
        """Mean accuracy in [0, 1]; None if no item was answered."""
        return self.n_correct / self.n_items if self.n_items else None


def question_scores(rationale_scores: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    """s_q by question id from (question id, s_r) pairs; s_r is None if it is not known.

    A rationale without a score (it could not be parsed) is left out of the mean: as a 0 it would
    blame the question for the teacher's mistake. Questions without any score are absent.
    """
    return mean_by((question, score) for question, score in rationale_scores if score is not None)


def mean_by(values: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The mean of the values under each name, in order of first appearance."""
    groups: dict[str, list[float]] = defaultdict(list)
    for name, value in values:
        groups[name].append(value)
    return {name: sum(group) / len(group) for name, group in groups.items()}
