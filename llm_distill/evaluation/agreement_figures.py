"""Figures of agreement: for each pair of annotators, teacher and students, and all together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any, Literal

from llm_distill.evaluation.result_rows import AgreementRow, Figure, FigureName
from llm_distill.evaluation.results import FigureTable
from llm_distill.methods import agreement
from llm_distill.methods.agreement import Label, Level
from llm_distill.methods.category_gate import CategoryKappas
from llm_distill.methods.statistics import Estimate, bootstrap

Name = FigureName | Literal["weighted_kappa"]


def label_figures(
    labels: Mapping[str, Sequence[Label | None]], level: Level = "nominal"
) -> Iterator[AgreementRow]:
    """`agreement` and `kappa` of each pair, `label_loyalty` to the first, and `alpha` of all.

    Args:
        labels: Annotator to a label for each item, in the same order; None where it is missing.
        level: Krippendorff's α's level of measurement.
    """
    teacher = next(iter(labels))
    for pair in combinations(labels, 2):
        table = agreement.tabulate(*(labels[name] for name in pair))
        both = agreement.labelled(table)
        share = agreement.estimate(agreement.percentage_agreement, table)
        yield _figure("agreement", pair, share, both)
        yield _figure("kappa", pair, agreement.estimate(agreement.cohen_kappa, table), both)
        if teacher in pair:
            taught = len(labels[teacher]) - list(labels[teacher]).count(None)
            loyalty = agreement.estimate(agreement.label_loyalty, table)
            yield _figure("label_loyalty", pair, loyalty, taught)
    table = agreement.tabulate(*labels.values())
    alpha = agreement.estimate(partial(agreement.krippendorff_alpha, level=level), table)
    yield _figure("alpha", tuple(labels), alpha, agreement.labelled(table))


def agreement_table(
    title: str, labels: Mapping[str, Sequence[Label | None]], graded: bool = False
) -> FigureTable:
    """Agreement of each two annotators and of all, with intervals; what is undefined is left out.

    Args:
        title: What they agree on.
        labels: As in `label_figures`.
        graded: Labels are grades: kappa is weighted, and alpha is ordinal as well.
    """
    rows: list[tuple[str, tuple[str, ...], Estimate | None, int]] = []
    for pair in combinations(labels, 2):
        table = agreement.tabulate(*(labels[name] for name in pair))
        both = agreement.labelled(table)
        kappa = agreement.weighted_kappa if graded else agreement.cohen_kappa
        share = agreement.estimate(agreement.percentage_agreement, table)
        rows.append(("agreement", pair, share, both))
        found = agreement.estimate(kappa, table)
        rows.append(("weighted kappa" if graded else "kappa", pair, found, both))
    table = agreement.tabulate(*labels.values())
    levels: tuple[Level, ...] = ("nominal", "ordinal") if graded else ("nominal",)
    for level in levels if len(labels) > 1 else ():
        alpha = agreement.estimate(partial(agreement.krippendorff_alpha, level=level), table)
        name = "alpha, ordinal" if level == "ordinal" else "alpha"
        rows.append((name, tuple(labels), alpha, agreement.labelled(table)))
    figures = (
        Figure(
            {"figure": what, "of": ", ".join(of)},
            found.value,
            found.low,
            found.high,
            n,
            "share" if what == "agreement" else "number",
        )
        for what, of, found, n in rows
        if found is not None
    )
    return FigureTable(title, tuple(figures))


def people_figures(
    labels: Mapping[str, Sequence[Label | None]], people: Sequence[str], level: Level
) -> tuple[AgreementRow, FigureTable | None]:
    """The teacher's agreement with people beside theirs with each other, and the same by label.

    Args:
        labels: As in `label_figures`, the teacher's first.
        people: Two annotators or more.
        level: As there; only with nominal labels is there a table by label.
    """
    names = [next(iter(labels)), *people]
    table = agreement.tabulate(*(labels[name] for name in names))
    places = range(1, len(names))
    found = agreement.estimate(partial(agreement.gap_to_people, people=places, level=level), table)
    n = agreement.labelled(agreement.labelled_by_first(table))
    figure = _figure("gap_to_people", tuple(names), found, n)
    return figure, _by_label(names[0], table, places) if level == "nominal" else None


def _by_label(teacher: str, table: agreement.Table, people: Sequence[int]) -> FigureTable:
    given = sorted({label for labels in table for label in labels if label is not None}, key=str)
    figures = []
    for label in given:
        alphas = agreement.alphas_with_people(agreement.one_label(table, label), people)
        for of, alpha in zip((f"{teacher} and people", "people"), alphas, strict=True):
            if alpha is not None:
                figures.append(Figure({"label": str(label), "alpha of": of}, alpha))
    return FigureTable("agreement by label", tuple(figures), across="alpha of")


def loyalty_figure(teacher: str, student: str, loyalties: Sequence[float]) -> AgreementRow:
    """`probability_loyalty`: the mean over items with its bootstrap interval."""
    found = bootstrap(loyalties) if loyalties else None
    return _figure("probability_loyalty", (teacher, student), found, len(loyalties))


def judge_figures(
    names: tuple[str, str],
    people: Sequence[Label | None],
    judge: Sequence[Label | None],
    weighted: bool,
) -> list[AgreementRow]:
    """`agreement` of people and a judge, and `kappa`, or `weighted_kappa` of grades.

    Args:
        names: People's and the judge's.
        people: A label for each item; a number where `weighted`.
        judge: The same of the judge, None where it cannot be read.
        weighted: Whether labels that are near to each other agree in part.
    """
    table = agreement.tabulate(people, judge)
    both = agreement.labelled(table)
    kappa = agreement.weighted_kappa if weighted else agreement.cohen_kappa
    return [
        _figure(
            "agreement", names, agreement.estimate(agreement.percentage_agreement, table), both
        ),
        _figure(
            "weighted_kappa" if weighted else "kappa",
            names,
            agreement.estimate(kappa, table),
            both,
        ),
    ]


def category_table(
    found: Mapping[str, CategoryKappas], above_people: float, above_model: float
) -> FigureTable:
    """Each category's kappas with their intervals, a line a category, and whether it passes."""
    figures = []
    for name, kappas in found.items():
        label = {"category": name}
        pairs = (("people with each other", kappas.people), ("model with people", kappas.model))
        for of, kappa in pairs:
            if kappa is not None:
                ends = kappa.low, kappa.high
                figures.append(Figure({**label, "of": of}, kappa.value, *ends, kappas.n))
        figures.append(Figure({**label, "of": "items"}, kappas.n))
        figures.append(Figure({**label, "of": "of them positive"}, kappas.n_positive))
        passes = kappas.passes(above_people, above_model)
        figures.append(Figure({**label, "of": "passes"}, float(passes)))
    title = f"kappa by category; its lower ends have to be above {above_people:g}, {above_model:g}"
    return FigureTable(title, tuple(figures), across="of")


def category_notes(name: str, kappas: CategoryKappas) -> Iterator[str]:
    """What to know before a category's kappas are believed."""
    if kappas.people is None or kappas.model is None:
        yield f"category '{name}': a kappa is undefined, since two gave every item the same label"
        return
    if kappas.is_wide:
        yield (
            f"category '{name}': {kappas.n_positive} of {kappas.n} items are positive, so its "
            f"kappas are known roughly: {category_line(name, kappas)}"
        )
    if kappas.undefined > 0:
        yield (
            f"category '{name}': a kappa is undefined in {kappas.undefined:.1%} of the bootstrap's "
            "draws, in which all labels are the same; they count as kappas of 0"
        )


def category_line(name: str, kappas: CategoryKappas) -> str:
    """`setup: people 0.950 (0.742 to 0.982), model 0.850 (0.660 to 0.931), n 289, 11 positive`."""

    def of(kappa: Estimate | None) -> str:
        if kappa is None:
            return "undefined"
        return f"{kappa.value:.3f} ({kappa.low:.3f} to {kappa.high:.3f})"

    counts = f"n {kappas.n:,}, {kappas.n_positive:,} positive"
    return f"{name}: people {of(kappas.people)}, model {of(kappas.model)}, {counts}"


def below(figures: Sequence[AgreementRow], minimum: Mapping[Any, float]) -> list[str]:
    """A text for each figure that is undefined or lower than its minimum."""
    return [
        f"{name_of(figure)} is {_spell(figure.value)}, below {minimum[figure.figure]}"
        for figure in figures
        if figure.figure in minimum
        and (figure.value is None or not figure.value >= minimum[figure.figure])
    ]


def line(figure: AgreementRow) -> str:
    """`kappa of teacher, student: 0.612 (0.480 to 0.731), n 120`."""
    interval = f" ({_spell(figure.low)} to {_spell(figure.high)})"
    known = "" if figure.value is None else interval
    return f"{name_of(figure)}: {_spell(figure.value)}{known}, n {figure.n:,}"


def name_of(figure: AgreementRow) -> str:
    return f"{figure.figure} of {', '.join(figure.annotators)}"


def _figure(
    name: Name, annotators: tuple[str, ...], found: Estimate | None, n: int
) -> AgreementRow:
    return AgreementRow(
        figure=name,
        annotators=annotators,
        value=found.value if found else None,
        low=found.low if found else None,
        high=found.high if found else None,
        n=n,
    )


def _spell(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
