"""What to make new training data for: a student's errors by skill, and a budget of rows. Pure.

DataEnvGym (arXiv 2410.06215): a policy looks at a student's answers to validation items and says
how many rows to make for which skill; another model writes them.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import Any, TypeVar

from llm_distill.errors import DataError
from llm_distill.methods.mixture import part_counts
from llm_distill.methods.seeds import derive_seed
from llm_distill.methods.skills import canonical
from llm_distill.rows.columns import Row, item_of, task_of

Skill = tuple[str, str]
"""Task and name: the same name in two tasks is two skills."""
Leaf = tuple[str, str, str]
"""What rows are wanted for: task, skill, and a part of it; "" for the skill as a whole.

Parts of two skills may have one name, and are two.
"""

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Tally:
    """The answers about a skill.

    errors: wrong ones; one about k skills is 1/k of an error in each, so that each counts as much.
    n_wrong, n_items: of whole items, each once for each of its skills.
    wrong_ids, ids: of the items that were answered wrongly, and of all; each once, in order of id.
    """

    errors: Fraction
    n_wrong: int
    n_items: int
    wrong_ids: tuple[str, ...]
    ids: tuple[str, ...]


def skills_of(row: Row, column: str) -> list[str]:
    """What a column says that a row is about: one name, or several; each once, canonical."""
    value: Any = row[column]
    names = [value] if isinstance(value, str) else list(value or ())
    return list(dict.fromkeys(filter(None, (canonical(str(name)) for name in names))))


def tallied(rows: Iterable[Row], column: str) -> dict[Skill, Tally]:
    """By skill, in alphabetical order, so that the order of the rows does not matter.

    Args:
        rows: answers with `is_correct`, or items without: then nothing is an error.
        column: see `skills_of`; a row about nothing counts nowhere.
    """
    errors: dict[Skill, Fraction] = defaultdict(Fraction)
    items: dict[Skill, list[tuple[str, bool]]] = defaultdict(list)
    for row in rows:
        names = skills_of(row, column)
        is_wrong = row.get("is_correct") is False
        for name in names:
            key = task_of(row), name
            errors[key] += Fraction(is_wrong, len(names))
            items[key].append((item_of(row), is_wrong))
    return {
        key: Tally(
            errors[key],
            sum(is_wrong for _, is_wrong in items[key]),
            len(items[key]),
            tuple(sorted({identity for identity, is_wrong in items[key] if is_wrong})),
            tuple(sorted({identity for identity, _ in items[key]})),
        )
        for key in sorted(items)
    }


def largest_remainder(weights: Mapping[Key, Fraction | int], n: int, seed: int) -> dict[Key, int]:
    """`n` things shared out by weight, in whole numbers that add up to `n`.

    As `methods.mixture.part_counts`, but of equal remainders a random one comes first, by the seed
    and the key: with many skills and few rows it must not be the same ones in each round.

    Args:
        weights: none below 0; those of weight 0 get nothing. If all are 0, nobody gets anything.
        n: how many.
        seed: of this round.
    """
    if not any(weights.values()):
        return dict.fromkeys(weights, 0)
    whole = lcm(*(Fraction(weight).denominator for weight in weights.values()))
    names = {key: f"{derive_seed(seed, 'remainder', repr(key)):010d} {key!r}" for key in weights}
    counts = part_counts({names[key]: int(weight * whole) for key, weight in weights.items()}, n)
    return {key: counts[name] for key, name in names.items()}


def at_random(skills: Iterable[Skill], n: int, seed: int) -> dict[Skill, int]:
    """A random skill for each of `n` rows: how often each was drawn."""
    ordered = sorted(set(skills))
    found = dict.fromkeys(ordered, 0)
    draw = random.Random(derive_seed(seed, "at_random"))
    for _ in range(n if ordered else 0):
        found[draw.choice(ordered)] += 1
    return found


def shown_errors(ids: Iterable[str], n_requests: int, n_shown: int, seed: int) -> list[list[str]]:
    """Which errors each request shows: all as often as each other, but for one.

    No more requests than errors: with few, a further one would show what others have shown.

    Args:
        ids: of the wrong answers; their order does not matter.
        n_requests: at most.
        n_shown: in each, or all if there are fewer.
        seed: of this round.
    """
    known = sorted(set(ids))
    size = min(n_shown, len(known))
    queue: list[str] = []
    shown: list[list[str]] = []
    for _ in range(min(n_requests, len(known))):
        taken = queue[:size]
        queue = queue[size:]
        if len(taken) < size:  # through all of them: they are shuffled anew
            cycle = derive_seed(seed, "shown_errors", len(shown))
            fresh = sorted(known, key=lambda i: (derive_seed(cycle, i), i))
            more = [i for i in fresh if i not in taken][: size - len(taken)]
            queue = [i for i in fresh if i not in more]
            taken = [*taken, *more]
        shown.append(taken)
    return shown


def made_by_leaf(rows: Iterable[Row]) -> dict[Leaf, int]:
    """How many rows there are for what each was written for: its `skill`, or a part of it."""
    counts: dict[Leaf, int] = defaultdict(int)
    for row in rows:
        skill, part = (canonical(str(row.get(name) or "")) for name in ("skill", "subskill"))
        if skill:
            counts[task_of(row), skill, part] += 1
    return dict(counts)


def of_one_student(rows: Sequence[Row], name: str) -> None:
    """Refuse answers of several models: a plan is for one student.

    Raises:
        DataError: with the models.
    """
    models = sorted({str(row["model"]) for row in rows if row.get("model")})
    if len(models) > 1:
        raise DataError(
            f"'{name}' has answers of {', '.join(models)}; a plan is made for one student: give "
            "the exam of that student alone"
        )
