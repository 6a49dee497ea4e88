"""Which skills a student lacks: how often each was named, and its share of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llm_distill.methods.statistics import Estimate, bootstrap_shares

Labelled = tuple[str, str, Sequence[str]]
"""A question's task, its id, and the skills that its answer lacks."""


@dataclass(frozen=True)
class MissingSkill:
    """A skill of a task. weight: its share of all labels of all tasks, with its interval."""

    task: str
    skill: str
    weight: Estimate
    question_ids: tuple[str, ...]

    @property
    def count(self) -> int:
        return len(self.question_ids)


def missing_skill_profile(questions: Sequence[Labelled]) -> list[MissingSkill]:
    """The profile, the most frequent skill first, then by task and name.

    Skill-Targeted Adaptive Training (arXiv 2510.10023): weights are proportional to counts. A skill
    counts once per question. Intervals are bootstrapped over questions, since the labels of a
    question are not independent; a question without any does not change the shares.
    """
    ids: dict[tuple[str, str], dict[str, None]] = {}
    for task, identity, skills in questions:
        for skill in skills:
            ids.setdefault((task, skill), {})[identity] = None
    ordered = sorted(ids, key=lambda key: (-len(ids[key]), key[1], key[0]))
    asked = dict.fromkeys(identity for found in ids.values() for identity in found)
    table = [[float(identity in ids[key]) for key in ordered] for identity in asked]
    weights = bootstrap_shares(table) if table else []
    return [
        MissingSkill(*key, weight, tuple(ids[key]))
        for key, weight in zip(ordered, weights, strict=True)
    ]
