"""Figures of several teachers: what each counts for, and how good it is on validation rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_distill.evaluation.results import Figure, FigureTable
from llm_distill.methods.label_combination import Combination
from llm_distill.methods.opinion_pools import log_loss
from llm_distill.methods.statistics import bootstrap, wilson_interval
from llm_distill.methods.teacher_labels import Held

TOGETHER = "(together)"
ANY = "(one of them)"
"""What whoever knew, row by row, which teacher to ask would have."""


def teacher_table(how: Combination, labelled: Mapping[str, float]) -> FigureTable:
    """labelled: the share of the texts that each has labelled."""
    figures = []
    for name, weight in how.weights.items():
        figures += [
            Figure({"teacher": name, "of": "weight"}, weight, kind="share"),
            Figure({"teacher": name, "of": "temperature"}, how.temperatures[name]),
            Figure({"teacher": name, "of": "texts labelled"}, labelled[name], kind="share"),
        ]
    return FigureTable("teachers", tuple(figures), across="of")


def held_out_table(held: Held, combined: Any) -> FigureTable:
    """Accuracy and log-loss on validation rows, on which settings may have been chosen.

    combined: [rows, labels], what becomes of them together.
    """
    import numpy as np

    right, n = np.asarray(held.right), len(held.right)
    figures = []
    of = dict(zip(held.teachers, held.p, strict=True))
    for name, p in {**of, TOGETHER: combined}.items():
        figures.append(_share(name, int((p.argmax(-1) == right).sum()), n))
        loss = Figure({"teacher": name, "of": "log-loss"}, log_loss(p, held.right), n=n)
        figures.append(loss)
    hits = (held.p.argmax(-1) == right).any(0)
    figures.append(_share(ANY, int(hits.sum()), n))
    return FigureTable("on validation rows", tuple(figures), across="of")


def ratio_table(ratios: Any, sources: Any) -> FigureTable:
    """How much each source came to count: a mean over training rows, with its interval.

    Of a teacher also over the rows in which its likeliest class is the label, and over the others.

    Args:
        ratios: [rows, teachers + 1], torch.
        sources: [rows, teachers + 1, classes], the label's one-hot last; zeros where there is none.
    """
    labelled = sources[:, -1].sum(-1) > 0
    label = sources[:, -1].argmax(-1)
    n_teachers = sources.shape[1] - 1
    figures = []
    for place in range(n_teachers + 1):
        says = sources[:, place].sum(-1) > 0
        parts = {"ratio": says}
        if place < n_teachers:
            agrees = sources[:, place].argmax(-1) == label
            both = says & labelled
            parts |= {"where it agrees with the label": both & agrees, "where not": both & ~agrees}
        name = f"teacher {place + 1}" if place < n_teachers else "the label"
        for of, rows in parts.items():
            found = ratios[rows, place].tolist()
            if found:
                mean = bootstrap(found)
                of_source = {"source": name, "of": of}
                figures.append(
                    Figure(of_source, mean.value, mean.low, mean.high, len(found), "share")
                )
    return FigureTable("how much each source counts", tuple(figures), across="of")


def _share(name: str, hits: int, n: int) -> Figure:
    found = wilson_interval(hits, n)
    of = {"teacher": name, "of": "right"}
    return Figure(of, found.value, found.low, found.high, n, "share")
