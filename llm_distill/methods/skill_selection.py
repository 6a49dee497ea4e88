"""Which questions exercise the skills that a student lacks.

STAT-Sel of "Skill-Targeted Adaptive Training" (arXiv 2510.10023): for each difficult question and
each skill missing there, a few of the questions labelled with that skill. A question counts as
often as it is drawn.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_distill.errors import DataError, quoted
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


def skill_name(skill: Sequence[str]) -> str:
    """`task/skill` or `task/skill/part`, for messages, without what is unnamed."""
    return "/".join(filter(None, skill))


def needs_of(profile: Iterable[Row]) -> list[Need]:
    """Each question of each skill of the profile, sorted, so that its order does not matter."""
    return sorted(
        {
            Need(task_of(row), canonical(_skill_of(row)), question)
            for row in profile
            for question in row["question_ids"] or ()
        }
    )


def _skill_of(row: Row) -> str:
    if not row["skill"]:
        raise DataError(
            f"a row of the profile (task '{task_of(row)}', question_ids "
            f"{quoted(row['question_ids'])}) has no skill; take rows of skill_profile"
        )
    return str(row["skill"])


def ids_by_skill(rows: Iterable[Row]) -> dict[Skill, list[str]]:
    """The ids of the rows labelled with each skill, sorted, so that their order does not matter.

    Two spellings of a skill are one, see `methods.skills.canonical`.
    """
    pools: dict[Skill, set[str]] = {}
    for row in rows:
        for skill in row["skills"] or ():
            pools.setdefault((task_of(row), canonical(skill)), set()).add(row["id"])
    return {skill: sorted(ids) for skill, ids in pools.items()}


def draw_for_each(
    needs: Iterable[Need], pools: Mapping[Skill, Sequence[str]], n: int, seed: int
) -> list[Draw]:
    """For each need `n` different rows labelled with its skill, or all if there are fewer.

    What is drawn for a need depends on the seed, the need and the pool alone.

    Args:
        needs: in any order.
        pools: sorted ids by skill, from `ids_by_skill`.
        n: how many rows.
        seed: of this selection.
    """
    found = []
    for need in needs:
        pool = pools.get((need.task, need.skill), ())
        own = random.Random(derive_seed(seed, need.question_id, need.task, need.skill))
        found += [Draw(need, source) for source in own.sample(pool, min(n, len(pool)))]
    return found


def shortfall(
    needs: Iterable[Need], pools: Mapping[Skill, Sequence[str]], enough: int
) -> tuple[dict[str, int], dict[str, int]]:
    """Needed skills with too few rows: the rows of each, and the needs of each that has no row."""
    wanted = Counter((need.task, need.skill) for need in needs)
    n_rows = {skill: len(pools.get(skill, ())) for skill in sorted(wanted)}
    short = {skill_name(skill): n for skill, n in n_rows.items() if 0 < n < enough}
    return short, {skill_name(skill): wanted[skill] for skill, n in n_rows.items() if not n}


def random_subset(ids: Iterable[str], n: int | None, seed: int) -> set[str]:
    """`n` random ids, or all if `n` is None or there are fewer; their order does not matter."""
    drawn = sorted(ids, key=lambda identity: (derive_seed(seed, "subset", identity), identity))
    return set(drawn[:n])


def selected(rows: Iterable[Row], chosen: Mapping[str, Sequence[Row]]) -> Iterator[Row]:
    """Each chosen row, once for each entry of its id in `chosen`, with the entry's columns."""
    for row in rows:
        for own in chosen.get(row["id"], ()):
            yield {**row, "parent_id": row["id"], "source_id": row["id"], **own}


def copies_by_task(like: Iterable[Row]) -> dict[str, list[tuple[float, ...]]]:
    """By task, the weights of each selected question's rows, the heaviest question first.

    A question that was drawn three times has (1.0, 1.0, 1.0), or (3.0,) if it is one weighted row.
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
    """Refuse rows that the student was judged on: training on them would make figures meaningless.

    Args:
        rows: what is to be trained on.
        name: the stage that they come from.
        ids: of the questions that the student was judged on.
        questions: their texts.
        judged: the stage that they come from.

    Raises:
        DataError: a row is one of these questions, is made from one, or asks the same.
    """
    own, texts = set(ids), {normalise(str(text)) for text in questions if text}
    for row in rows:
        if own & {row["id"], row.get("parent_id")}:
            what, advice = "has the id of", "or give the rows other ids, if only those are equal"
        elif row.get("question") and normalise(row["question"]) in texts:
            what, advice = "asks the same as", f"or put a decontaminate stage after '{name}'"
        else:
            continue
        raise DataError(
            f"row {row['id']} of '{name}' {what} a question of '{judged}', which the student was "
            f"judged on; take rows of another split, {advice}"
        )
