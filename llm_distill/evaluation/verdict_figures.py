"""Tables of the verdicts on rows: what judges say, and how far it is from what is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from llm_distill.evaluation.judge_results import OUTCOMES, WORTH
from llm_distill.evaluation.result_rows import Kind
from llm_distill.evaluation.results import Figure, FigureTable, name_of_all
from llm_distill.methods import agreement
from llm_distill.methods.agreement import Label
from llm_distill.methods.statistics import Estimate, bootstrap, wilson_interval
from llm_distill.methods.verdicts import root_mean_square

By = Mapping[str, Sequence[Label | None]]
"""Of each judge its verdict on each item, in the same order; None where there is none."""


def grade_table(title: str, grades: By, groups: Sequence[str] | None) -> FigureTable:
    """The mean grade by each judge, and by group where there are any.

    groups: of each item the group that it is in.
    """
    figures = []
    for name, group, places in _lines(grades, groups):
        known = [float(g) for place in places if (g := grades[name][place]) is not None]
        if known:
            found = bootstrap(known)
            labels = _labels(name, group, groups)
            figures.append(Figure(labels, found.value, found.low, found.high, len(known)))
    return FigureTable(title, tuple(figures))


def winner_table(
    title: str,
    winners: By,
    contradicted: Mapping[str, Sequence[bool | None]],
    groups: Sequence[str] | None,
) -> FigureTable:
    """How often the first answer wins, by each judge, and by group where there are any.

    contradicted: of each judge whether it contradicts itself on an item; None where it was not
        asked, or cannot be read.
    """
    figures: list[Figure] = []
    for name, group, places in _lines(winners, groups):
        said = [w for place in places if (w := winners[name][place]) is not None]
        if not said:
            continue
        labels = _labels(name, group, groups)
        outcomes = [OUTCOMES[winner] for winner in said]  # type: ignore[index]
        found = bootstrap([WORTH[outcome] for outcome in outcomes])
        rate = {**labels, "figure": "win rate of the first, a tie is half"}
        figures.append(Figure(rate, found.value, found.low, found.high, len(said), "share"))
        for outcome in WORTH:
            share = outcomes.count(outcome) / len(outcomes)
            figures.append(Figure({**labels, "figure": outcome}, share, kind="share"))
        flips = contradicted.get(name, ())
        known = [flip for place in places if flips and (flip := flips[place]) is not None]
        if known:
            share = sum(known) / len(known)
            figures.append(Figure({**labels, "figure": "contradicted itself"}, share, kind="share"))
    return FigureTable(title, tuple(figures), across="figure")


def known_table(
    title: str,
    verdicts: By,
    known: Sequence[Label | None],
    groups: Sequence[str] | None,
    graded: bool,
) -> FigureTable:
    """How far each judge is from what is known, and by group where there are any.

    Args:
        title: What they are compared with.
        verdicts: Of each judge.
        known: The truth, or what people say; None where it is not known.
        groups: Of each item the group that it is in.
        graded: Whether they are grades, which have errors; else winners.
    """
    figures: list[Figure] = []
    for name, group, places in _lines(verdicts, groups):
        pairs = [
            (given, right)
            for place in places
            if (given := verdicts[name][place]) is not None and (right := known[place]) is not None
        ]
        labels = _labels(name, group, groups)
        for what, found, kind in _against(pairs, graded) if pairs else ():
            ends = found.low, found.high
            figures.append(Figure({**labels, "figure": what}, found.value, *ends, len(pairs), kind))
    return FigureTable(title, tuple(figures), across="figure")


def _against(
    pairs: Sequence[tuple[Label, Label]], graded: bool
) -> Iterator[tuple[str, Estimate, Kind]]:
    same = sum(given == right for given, right in pairs)
    yield "the same", wilson_interval(same, len(pairs)), "share"
    table = agreement.tabulate(*zip(*pairs, strict=True))
    kappa = agreement.weighted_kappa if graded else agreement.cohen_kappa
    found = agreement.estimate(kappa, table)
    if found is not None:
        yield "weighted kappa" if graded else "kappa", found, "number"
    if graded:
        alpha = agreement.estimate(partial(agreement.krippendorff_alpha, level="ordinal"), table)
        if alpha is not None:
            yield "alpha, ordinal", alpha, "number"
        errors = [float(given) - float(right) for given, right in pairs]
        yield "RMSE", root_mean_square(errors), "number"
        yield "mean error", bootstrap(errors), "difference"


def _lines(by: By, groups: Sequence[str] | None) -> Iterator[tuple[str, str, Sequence[int]]]:
    """Each judge with all items, and then with those of each group."""
    for name, verdicts in by.items():
        yield name, name_of_all(groups or ()), range(len(verdicts))
        for group in sorted({*(groups or ())}):
            yield name, group, [place for place, of in enumerate(groups or ()) if of == group]


def _labels(name: str, group: str, groups: Sequence[str] | None) -> dict[str, str]:
    return {"judge": name} if groups is None else {"judge": name, "group": group}
