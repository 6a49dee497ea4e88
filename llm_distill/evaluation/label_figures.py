"""Tables on labels: how often texts were given which, and how well each is recognised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from llm_distill.evaluation.results import CALIBRATION, MATRIX, Figure, FigureTable, group_name
from llm_distill.evaluation.shares import share_table
from llm_distill.methods.classification import (
    ClassFigures,
    by_class,
    calibration,
    calibration_error,
    confusions,
    macro_f1,
    macro_f1_difference,
)
from llm_distill.methods.statistics import paired_bootstrap, wilson_interval

MOST_CLASSES = 30
"""More are no table to look at; F1 by class is left out of the terminal."""

MOST_CONFUSED = 60
"""Labels in a picture of confusions: more cannot be read."""

OTHERS = "(others)"


def label_shares(counts: Mapping[str, int], names: Sequence[str], n: int) -> FigureTable:
    """The share of `n` texts with each label, with Wilson's interval. n: above 0."""
    return share_table("share of texts by label", "label", counts, names, n)


def mean_probabilities(names: Sequence[str], means: Sequence[float]) -> FigureTable:
    """How likely a teacher finds each label on the whole: what calibration divides by."""
    figures = [
        Figure({"label": name}, mean, kind="share") for name, mean in zip(names, means, strict=True)
    ]
    return FigureTable("mean probability before calibration", tuple(figures))


def class_table(name: str, classes: Sequence[ClassFigures], *, is_detail: bool) -> FigureTable:
    """Precision, recall and F1 of each class. is_detail: left out of the terminal."""
    figures = []
    for each in classes:
        measures = {"precision": each.precision, "recall": each.recall, "F1": each.f1}
        label = {"label": each.label}
        figures += [
            Figure({**label, "of": measure}, value, n=each.n, kind="share")
            for measure, value in measures.items()
            if value is not None
        ]
        figures.append(Figure({**label, "of": "items"}, each.n))
    return FigureTable(f"{name}, by label", tuple(figures), is_detail=is_detail, across="of")


def label_tables(
    right: list[str],
    given: Mapping[str, list[str | None]],
    sure: Mapping[str, list[tuple[float, bool]]],
) -> Iterator[FigureTable]:
    """The constant answer, macro-F1, F1 and confusions by class, calibration: one label a text.

    Args:
        right: The right label of each item.
        given: By stage what was said, None for nothing. The first is what others are compared with.
        sure: By stage (confidence, right or not) of the items where the former is known.
    """
    most, often = min(Counter(right).items(), key=lambda each: (-each[1], each[0]))
    yield constant_table(most, often, len(right))
    yield from _macro(right, given, most)
    for name, said in given.items():
        many = len({*right}) > MOST_CLASSES
        yield class_table(name, by_class(right, said), is_detail=many)
        if len({*right}) <= MOST_CONFUSED:
            yield _confused(name, right, said)
    if any(sure.values()):
        yield from _calibrated({name: pairs for name, pairs in sure.items() if pairs})


def constant_table(name: str, n_right: int, n: int) -> FigureTable:
    """The accuracy of one answer to all n items, which a model has to beat. name: the answer."""
    found = wilson_interval(n_right, n)
    figure = Figure({"model": f"always {name}"}, found.value, found.low, found.high, n, "share")
    return FigureTable("accuracy of the most frequent answer", (figure,))


def group_tables(
    column: str, groups: Sequence[str], hits: Mapping[str, Sequence[bool]]
) -> Iterator[FigureTable]:
    """Accuracies for each value of a column, and paired differences from the first.

    Args:
        groups: The value of each item, (N,).
        hits: By stage whether each item's label is right, (N,).
    """
    first = next(iter(hits))
    figures, changes = [], []
    for group in sorted({*groups}):
        of = {
            name: [hit for hit, its in zip(said, groups, strict=True) if its == group]
            for name, said in hits.items()
        }
        for name, chosen in of.items():
            found = wilson_interval(sum(chosen), len(chosen))
            ends = found.low, found.high
            figures.append(
                Figure({column: group, "model": name}, found.value, *ends, len(chosen), "share")
            )
            if name != first:
                change = paired_bootstrap(of[first], chosen)
                label = {column: group, "difference": f"{name} − {first}"}
                ends = change.low, change.high
                changes.append(Figure(label, change.value, *ends, len(chosen), "points"))
    yield FigureTable(f"accuracy by {column}", tuple(figures))
    if changes:
        yield FigureTable(f"accuracy by {column}, paired", tuple(changes))


def _macro(
    right: list[str], given: Mapping[str, list[str | None]], most: str
) -> Iterator[FigureTable]:
    first, n = next(iter(given)), len(right)
    constant: list[str | None] = [most] * n
    figures, changes = [], []
    for name, said in {f"always {most}": constant, **given}.items():
        found = macro_f1(right, said)
        figures.append(Figure({"model": name}, found.value, found.low, found.high, n, "share"))
        if name in given and name != first:
            found = macro_f1_difference(right, given[first], said)
            label = {"difference": f"{name} − {first}"}
            changes.append(Figure(label, found.value, found.low, found.high, n, "points"))
    yield FigureTable("macro-F1", tuple(figures))
    if changes:
        yield FigureTable("macro-F1, paired", tuple(changes))


def _confused(name: str, right: list[str], said: list[str | None]) -> FigureTable:
    """The rows are the right labels; the columns are these, and then what else was given."""
    labels = sorted({*right})
    others = sorted({label for label in said if label is not None} - {*labels})
    if len(labels) + len(others) > MOST_CONFUSED:
        known = {*labels, None}
        said = [label if label in known else OTHERS for label in said]
        others = [OTHERS]
    counts = confusions(right, said)
    columns = [*labels, *others, *([None] if None in said else [])]
    figures = [
        Figure({"right label": label, "given": group_name(other)}, counts[label, other])
        for label in labels
        for other in columns
    ]
    return FigureTable(
        f"{name}, confusions", tuple(figures), is_detail=True, across="given", drawn_as=MATRIX
    )


def _calibrated(sure: Mapping[str, list[tuple[float, bool]]]) -> Iterator[FigureTable]:
    errors, lines = [], []
    for name, pairs in sure.items():
        confidences, hits = zip(*pairs, strict=True)
        error = calibration_error(confidences, hits)
        ends = error.low, error.high
        errors.append(Figure({"model": name}, error.value, *ends, len(pairs), "share"))
        for each in calibration(confidences, hits):
            at = {"model": name, "confidence": str(round(100 * (each.low + each.high) / 2))}
            found = wilson_interval(each.right, each.n)
            ends = found.low, found.high
            lines += [
                Figure({**at, "of": "mean confidence"}, each.confidence, kind="share"),
                Figure({**at, "of": "right"}, found.value, *ends, each.n, "share"),
                Figure({**at, "of": "items"}, each.n),
            ]
    yield FigureTable("expected calibration error", tuple(errors))
    yield FigureTable(
        "calibration, by confidence in %",
        tuple(lines),
        is_detail=True,
        across="of",
        over="confidence",
        drawn_as=CALIBRATION,
    )
