"""The figures of tutors as tables: what their dialogues came to, over the pupil's turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llm_distill.evaluation.result_rows import Figure, Kind
from llm_distill.evaluation.results import FigureTable
from llm_distill.methods.statistics import Estimate, bootstrap_shares
from llm_distill.methods.tutoring import MEASURES, Outcome, act_counts, by_item, paired, share

WITHOUT = MEASURES[2]


@dataclass(frozen=True)
class Held:
    """A dialogue that was held.

    Attributes:
        item: What it is about; several dialogues about one item are not independent.
        acts: Of the tutor's new turns, those that it declared.
        before, after: Whether the pupil's answers before and after it are right; None: not asked.
    """

    item: str
    outcome: Outcome
    acts: tuple[str, ...] = ()
    before: bool | None = None
    after: bool | None = None


def tutoring_tables(tutors: Mapping[str, Sequence[Held]], ks: Sequence[int]) -> list[FigureTable]:
    """The tables of tutors, the first of whom the others are compared with.

    Args:
        tutors: By name, each with one dialogue at least.
        ks: Ascending numbers of the pupil's turns; the last is that of the comparison.
    """
    found = [_curve(tutors, ks), _plane(tutors, ks[-1])]
    if differences := _differences(tutors, ks[-1]):
        title = f"differences from {next(iter(tutors))} at {ks[-1]} turns"
        found.append(FigureTable(title, tuple(differences), across="measure"))
    if gains := _gains(tutors):
        found.append(FigureTable("before and after", tuple(gains), across="measure"))
    if acts := _acts(tutors):
        found.append(FigureTable("acts of the tutor", tuple(acts)))
    return found


def _curve(tutors: Mapping[str, Sequence[Held]], ks: Sequence[int]) -> FigureTable:
    figures = tuple(
        _figure({"tutor": name, "turns": str(k), "measure": measure}, _at(talks, k, measure))
        for name, talks in tutors.items()
        for k in ks
        for measure in MEASURES
    )
    title = "tutoring by turns of the pupil"
    return FigureTable(title, figures, across="measure", over="turns", drawn=MEASURES)


def _plane(tutors: Mapping[str, Sequence[Held]], k: int) -> FigureTable:
    """Success against telling: a tutor that always tells is at the upper right."""
    figures = []
    for name, talks in tutors.items():
        figures.append(Figure({"tutor": name, "measure": "dialogues"}, len(talks)))
        for measure in ("telling", "success", WITHOUT):
            figures.append(_figure({"tutor": name, "measure": measure}, _at(talks, k, measure)))
    title = f"success against telling at {k} turns"
    return FigureTable(title, tuple(figures), across="measure", drawn=("telling", "success"))


def _differences(tutors: Mapping[str, Sequence[Held]], k: int) -> list[Figure]:
    (_, first), *others = tutors.items()
    found = []
    for name, talks in others:
        pairs = {each: paired(_at(first, k, each), _at(talks, k, each)) for each in MEASURES}
        for measure, pair in pairs.items():
            if pair is not None:
                found.append(_of({"tutor": name, "measure": measure}, *pair, "points"))
        n_both = max((pair[1] for pair in pairs.values() if pair is not None), default=0)
        if n_both:
            found.append(Figure({"tutor": name, "measure": "items"}, n_both))
    return found


def _gains(tutors: Mapping[str, Sequence[Held]]) -> list[Figure]:
    found = []
    for name, talks in tutors.items():
        was, now = (
            by_item(
                (t.item, float(value)) for t in talks if (value := getattr(t, when)) is not None
            )
            for when in ("before", "after")
        )
        for measure, values in ("before", was), ("after", now):
            if values:
                found.append(_figure({"tutor": name, "measure": measure}, values))
        both = [t for t in talks if t.before is not None and t.after is not None]
        gain = paired(
            by_item((t.item, float(bool(t.before))) for t in both),
            by_item((t.item, float(bool(t.after))) for t in both),
        )
        if gain is not None:
            of = {"tutor": name, "measure": "gain"}
            found.append(_of(of, gain[0], gain[1], "points"))
    return found


def _acts(tutors: Mapping[str, Sequence[Held]]) -> list[Figure]:
    """Shares of the acts that are declared; dialogues are drawn as a whole."""
    found = []
    for name, talks in tutors.items():
        acts, counts = act_counts([talk.acts for talk in talks])
        shares = bootstrap_shares(counts) if counts else ()
        for act, estimate in zip(acts, shares, strict=True):
            found.append(_of({"tutor": name, "act": act}, estimate, len(counts), "share"))
    return found


def _at(talks: Sequence[Held], k: int, measure: str) -> dict[str, float]:
    return by_item((talk.item, float(talk.outcome.at(k)[measure])) for talk in talks)


def _figure(labels: Mapping[str, str], items: Mapping[str, float]) -> Figure:
    return _of(labels, share(items), len(items), "share")


def _of(labels: Mapping[str, str], found: Estimate, n: int, kind: Kind) -> Figure:
    return Figure(labels, found.value, found.low, found.high, n, kind)
