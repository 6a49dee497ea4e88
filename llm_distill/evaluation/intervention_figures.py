"""Figures about a tutor's help: what explanations are worth, and accuracy against their budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_distill.evaluation.results import Figure, FigureTable
from llm_distill.methods.statistics import bootstrap, rank_correlation, wilson_interval


def utility_table(rows: Sequence[Mapping[str, Any]], tells_right: bool) -> FigureTable:
    """Mean p without and with explanations, mean utility, and the share of utilities above 0.

    Args:
        rows: each with `p_without`, `p_with` and `utility`; with `is_right`, whether the student is
            right without help, or None where that is not known.
        tells_right: whether the figures are also given apart by `is_right`, with its share.
    """
    groups: dict[str, Sequence[Mapping[str, Any]]] = {"all": rows}
    figures: list[Figure] = []
    if tells_right:
        known = [row for row in rows if row["is_right"] is not None]
        right = [row for row in known if row["is_right"]]
        wrong = [row for row in known if not row["is_right"]]
        groups |= {"student is right already": right, "student is wrong": wrong}
        if known:
            share = wilson_interval(len(right), len(known))
            labels = {"rows": "all", "figure": "student is right already"}
            figures.append(
                Figure(labels, share.value, share.low, share.high, len(known), kind="share")
            )
    for name, group in groups.items():
        if not group:
            continue
        for column in ("p_without", "p_with", "utility"):
            found = bootstrap([row[column] for row in group])
            labels = {"rows": name, "figure": column}
            figures.append(Figure(labels, found.value, found.low, found.high, len(group)))
        above = wilson_interval(sum(row["utility"] > 0 for row in group), len(group))
        labels = {"rows": name, "figure": "utility above 0"}
        figures.append(Figure(labels, above.value, above.low, above.high, len(group), kind="share"))
    return FigureTable("what explanations are worth", tuple(figures), across="figure")


def budget_tables(lines: Sequence[Mapping[str, Any]]) -> list[FigureTable]:
    """Accuracy over the budget, drawn by ranking, and its paired difference from random.

    Args:
        lines: by ranking and budget, with `accuracy`, `low`, `high`, and the same of `difference`.
    """
    names = tuple(dict.fromkeys(str(line["ranking"]) for line in lines))
    accuracy, differences = [], []
    for line in lines:
        labels = {"budget": f"{line['budget']:g}", "ranking": str(line["ranking"])}
        ends = line["low"], line["high"]
        accuracy.append(Figure(labels, line["accuracy"], *ends, line["n_items"], kind="share"))
        if line["ranking"] != "random":
            ends = line["difference_low"], line["difference_high"]
            value = line["difference"]
            differences.append(Figure(labels, value, *ends, line["n_items"], kind="points"))
    over: dict[str, Any] = {"across": "ranking", "over": "budget"}
    return [
        FigureTable("accuracy by budget", tuple(accuracy), drawn=names, **over),
        FigureTable("difference from random", tuple(differences), **over),
    ]


def correlation_table(
    scores: Mapping[str, Sequence[float | None]], truth: Sequence[float]
) -> FigureTable:
    """Spearman's correlation of each ranking's scores with what help did in truth.

    Args:
        scores: by ranking, [n_items]; items without one are left out.
        truth: [n_items].
    """
    figures = []
    for name, each in scores.items():
        pairs = [
            [(score, true)] for score, true in zip(each, truth, strict=True) if score is not None
        ]
        found = rank_correlation(pairs)
        if found is not None:
            ends = found.low, found.high
            figures.append(Figure({"ranking": name}, found.value, *ends, len(pairs)))
    return FigureTable("rank correlation with the true utility", tuple(figures))
