"""Tables on sets of labels: micro- and macro-F1 of several stages, and F1 by label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from llm_distill.evaluation.label_figures import MOST_CLASSES, class_table, constant_table
from llm_distill.evaluation.result_rows import Kind
from llm_distill.evaluation.results import Figure, FigureTable
from llm_distill.methods.label_sets import SetFigures, by_label, set_figures, set_figures_difference
from llm_distill.methods.statistics import Estimate

LabelSet = frozenset[str]


def written(labels: LabelSet | None) -> str | None:
    """As one text, for tables and rows: names have no `;`."""
    return None if labels is None else "; ".join(sorted(labels))


def label_set_tables(
    right: Sequence[LabelSet], given: Mapping[str, Sequence[LabelSet | None]]
) -> Iterator[FigureTable]:
    """The first of `given` is what the others are compared with, paired by item.

    None, for a text to which nothing was said, counts as no label here.
    """
    often, n_often = min(Counter(right).items(), key=lambda each: (-each[1], sorted(each[0])))
    yield constant_table(written(often) or "none", n_often, len(right))
    said = {name: [labels or LabelSet() for labels in of] for name, of in given.items()}
    constant = {f"always {written(often) or 'none'}": [often] * len(right)}
    figures = {name: set_figures(right, of) for name, of in {**constant, **said}.items()}
    first, *others = said
    changes = {
        f"{name} − {first}": set_figures_difference(right, said[first], said[name])
        for name in others
    }
    n = len(right)
    for measure in ("micro", "macro"):
        yield _table(f"{measure}-F1", "model", "share", _of(figures, measure), n)
        if changes:
            title = f"{measure}-F1, paired"
            yield _table(title, "difference", "points", _of(changes, measure), n)
    for name, of in said.items():
        labels = {label for each in right for label in each}
        yield class_table(name, by_label(right, of), is_detail=len(labels) > MOST_CLASSES)


def _of(figures: Mapping[str, SetFigures], measure: str) -> dict[str, Estimate]:
    return {
        name: found.micro if measure == "micro" else found.macro for name, found in figures.items()
    }


def _table(title: str, label: str, kind: Kind, of: Mapping[str, Estimate], n: int) -> FigureTable:
    figures = tuple(
        Figure({label: name}, found.value, found.low, found.high, n, kind)
        for name, found in of.items()
    )
    return FigureTable(title, figures)
