"""Which skills a student may learn next: gaps to its teacher, in the order of their prerequisites.

As summaries of IOA (arXiv 2602.12172) have it, whose code is not public: a skill is deficient where
Δ = (P_T − P_S) / P_T is above 0.3, and taught once what it builds on is mastered, P_S / P_T ≥ 0.9.
That a ratio of few items is only held against a student if its interval says so, is ours: P_S / P_T
of a perfect student is below 0.9 on ten items as soon as it slips twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from math import sqrt

from llm_distill.methods.statistics import Estimate, wilson_interval

MASTERED, DEFICIENT = 0.9, 0.3

Prerequisites = Mapping[str, Collection[str]]
"""By skill, the skills that it builds on."""


@dataclass(frozen=True)
class Counts:
    """How many of `n` items were answered rightly."""

    n_correct: int
    n: int

    @property
    def accuracy(self) -> float:
        return self.n_correct / self.n


@dataclass(frozen=True)
class Mastery:
    """A skill of a student.

    Attributes:
        ratio: P_S / P_T with its 95 % interval; None where the teacher answers nothing rightly.
        gap: Δ = 1 − ratio; negative where the student is the better one.
        severity: α · max(Δ, 0) + (1 − α) · connectivity, 0 to 1; 0 where there is no ratio.
        is_mastered: the ratio's interval reaches 0.9, and Δ is at most 0.3; None without a ratio:
            the teacher cannot teach it, and holds nothing up with it.
        is_open: it is to be taught now: not mastered, and all that it builds on is.
        order: its place in the order of teaching, from 0.
    """

    skill: str
    ratio: Estimate | None
    severity: float
    is_mastered: bool | None
    is_open: bool
    order: int

    @property
    def gap(self) -> float | None:
        return None if self.ratio is None else 1 - self.ratio.value


def mastery(
    student: Mapping[str, Counts],
    teacher: Mapping[str, Counts] | None,
    prerequisites: Prerequisites,
    alpha: float = 0.5,
) -> list[Mastery]:
    """Each skill, in the order in which they may be taught; of equals by name.

    Args:
        student: by skill, of the student's answers.
        teacher: the same of its teacher; None: it is always right.
        prerequisites: of some of these skills; others build on nothing.
        alpha: the weight of the gap in the severity.

    Raises:
        ValueError: prerequisites go round in a circle, or name a skill without items.
    """
    unknown = {*prerequisites, *(n for own in prerequisites.values() for n in own)} - student.keys()
    if unknown:
        raise ValueError(f"no item needs {', '.join(sorted(unknown))}")
    ordered = teaching_order(student, prerequisites)
    reach = connectivity(student, prerequisites)
    ratios = {}
    for skill, own in student.items():
        other = None if teacher is None else teacher[skill]
        ratios[skill] = accuracy_ratio(own, other)
    mastered = {skill: None if r is None else _is_mastered(r) for skill, r in ratios.items()}
    found = []
    for place, skill in enumerate(ordered):
        ratio = ratios[skill]
        gap = 0.0 if ratio is None else max(0.0, 1 - ratio.value)
        blocked = any(mastered[need] is False for need in prerequisites.get(skill, ()))
        severity = 0.0 if ratio is None else alpha * gap + (1 - alpha) * reach[skill]
        is_open = mastered[skill] is False and not blocked
        found.append(Mastery(skill, ratio, severity, mastered[skill], is_open, place))
    return found


def _is_mastered(ratio: Estimate) -> bool:
    return ratio.high >= MASTERED and 1 - ratio.value <= DEFICIENT + 1e-9


def teaching_order(skills: Iterable[str], prerequisites: Prerequisites) -> list[str]:
    """A topological order: what a skill builds on comes before it; of several the first by name.

    Raises:
        ValueError: there is none, since prerequisites go round in a circle.
    """
    sorter = TopologicalSorter({skill: prerequisites.get(skill, ()) for skill in skills})
    try:
        sorter.prepare()
    except CycleError as error:
        raise ValueError(
            f"prerequisites go round in a circle: {' ← '.join(error.args[1])}"
        ) from error
    ordered: list[str] = []
    ready: list[str] = []
    while sorter.is_active():
        ready = sorted([*ready, *sorter.get_ready()])
        ordered.append(ready.pop(0))
        sorter.done(ordered[-1])
    return ordered


def connectivity(skills: Collection[str], prerequisites: Prerequisites) -> dict[str, float]:
    """By skill, the share of the other skills that build on it, directly or not: 0 to 1."""
    below: dict[str, set[str]] = {}
    for skill in teaching_order(skills, prerequisites):  # so that what it builds on is there
        own = prerequisites.get(skill, ())
        below[skill] = {*own, *(far for need in own for far in below[need])}
    others = max(1, len(below) - 1)
    return {skill: sum(skill in need for need in below.values()) / others for skill in below}


def accuracy_ratio(student: Counts, teacher: Counts | None) -> Estimate | None:
    """P_S / P_T with a 95 % interval; None where P_T is 0.

    MOVER's interval of a ratio (Donner & Zou 2012, Stat. Methods Med. Res. 21) from Wilson's
    intervals of both. It takes the two for independent; on the same items it is too wide, if at
    all. Without a teacher P_T is 1 and the interval Wilson's.
    """
    first = wilson_interval(student.n_correct, student.n)
    if teacher is None:
        return first
    if not teacher.n_correct:
        return None
    second = wilson_interval(teacher.n_correct, teacher.n)
    product = first.value * second.value

    def end(of_first: float, of_second: float, sign: int) -> float:
        inner = of_first * of_second * (2 * first.value - of_first) * (2 * second.value - of_second)
        root = sqrt(max(0.0, product * product - inner))
        return (product + sign * root) / (of_second * (2 * second.value - of_second))

    low = end(first.low, second.high, -1)
    high = end(first.high, second.low, 1)
    return Estimate(first.value / second.value, max(0.0, low), high)


def missed(rows: Sequence[tuple[str, Collection[str], bool]]) -> dict[str, list[str]]:
    """By skill, the ids of the items that need it and were answered wrongly.

    Args:
        rows: id, skills and whether the answer is right, of each item.
    """
    found: dict[str, list[str]] = {}
    for identity, skills, is_correct in rows:
        for skill in skills:
            found.setdefault(skill, []).extend([] if is_correct else [identity])
    return found
