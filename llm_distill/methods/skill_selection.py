"""Which questions exercise the skills that a student lacks. Pure.

STAT-Sel of "Skill-Targeted Adaptive Training": for each difficult question and each skill that is
missing there, a few of the questions labelled with that skill. How often a question is drawn is
how much it counts.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_distill.errors import DataError
from llm_distill.methods.seeds import derive_seed
from llm_distill.methods.skills import canonical
from llm_distill.methods.words import normalise
from llm_distill.rows.columns import Row, task_of

Skill = tuple[str, str]
"""Task and name: the same name in two tasks is two skills."""


@dataclass(frozen=True, order=True)
class Need:
    """A difficult question, and one of the skills that the student lacks there."""

    task: str
    skill: str
    question_id: str

    @property
    def id(self) -> str:
        return f"{self.question_id}/{self.skill}"


@dataclass(frozen=True)
class Draw:
    """A row that was drawn for a need."""

    need: Need
    source_id: str

    @property
    def id(self) -> str:
        return f"{self.need.id}/{self.source_id}"


def skill_name(skill: Skill) -> str:
    """`task/skill`, as it is written for people; the skill alone in the unnamed task."""
    return "/".join(filter(None, skill))


def needs_of(profile: Iterable[Row]) -> list[Need]:
    """Each question of each skill of the profile, sorted: the profile's order does not matter."""
    return sorted(
        {
            Need(task_of(row), canonical(row["skill"]), question)
            for row in profile
            for question in row["question_ids"]
        }
    )


def ids_by_skill(rows: Iterable[Row]) -> dict[Skill, list[str]]:
    """The ids of the rows that are labelled with each skill, sorted: their order does not matter.

    A skill that is spelled in two ways is one, see `methods.skills.canonical`.
    """
    pools: dict[Skill, set[str]] = {}
    for row in rows:
        for skill in row["skills"] or ():
            pools.setdefault((task_of(row), canonical(skill)), set()).add(row["id"])
    return {skill: sorted(ids) for skill, ids in pools.items()}


def draw_for_each(
    needs: Iterable[Need], pools: Mapping[Skill, Sequence[str]], n: int, seed: int
) -> list[Draw]:
    """For each need `n` different rows labelled with its skill; all of them where there are fewer.

    What is drawn for a need depends on the seed, the need and the pool alone.

    pools: sorted ids by skill, as `ids_by_skill` gives them.
    """
    found = []
    for need in needs:
        pool = pools.get((need.task, need.skill), ())
        own = random.Random(derive_seed(seed, need.question_id, need.task, need.skill))
        found += [Draw(need, source) for source in own.sample(pool, min(n, len(pool)))]
    return found


def random_subset(ids: Iterable[str], n: int | None, seed: int) -> set[str]:
    """`n` of the ids at random, all where there are fewer or `n` is None; in any order the same."""
    drawn = sorted(ids, key=lambda identity: (derive_seed(seed, "subset", identity), identity))
    return set(drawn[:n])


def copies_by_task(like: Iterable[Row]) -> dict[str, list[tuple[float, ...]]]:
    """By task, the weights of the rows that each question of a selection has, the most first.

    A question that was drawn three times has (1.0, 1.0, 1.0), or (3.0,) where its weight says it.
    A row without a weight counts once.
    """
    weights: dict[tuple[str, str], list[float]] = {}
    for row in like:
        weight = row.get("weight")
        own = weights.setdefault((task_of(row), row["source_id"]), [])
        own.append(1.0 if weight is None else float(weight))
    found: dict[str, list[tuple[float, ...]]] = {}
    for (task, _), own in weights.items():
        found.setdefault(task, []).append(tuple(sorted(own, reverse=True)))
    for lists in found.values():
        lists.sort(key=lambda own: (sum(own), own), reverse=True)
    return found


def check_apart(
    rows: Iterable[Row], name: str, ids: Iterable[str], questions: Iterable[Any], judged: str
) -> None:
    """Refuse rows that the student was judged on: a figure on them would mean nothing any more.

    ids: of the questions that the student was judged on. questions: their texts. judged: the stage
    that they come from; `name` is that of the rows.

    Raises:
        DataError: a row is one of these questions, is made from one, or asks the same.
    """
    own, texts = set(ids), {normalise(str(text)) for text in questions if text}
    for row in rows:
        if own & {row["id"], row.get("parent_id")}:
            what, advice = "has the id of", "or give the rows other ids, if only those are equal"
        elif row.get("question") and normalise(row["question"]) in texts:
            what, advice = "asks the same as", f"or put a decontaminate stage behind '{name}'"
        else:
            continue
        raise DataError(
            f"row {row['id']} of '{name}' {what} a question of '{judged}', which the student was "
            f"judged on; take rows of another split, {advice}"
        )
