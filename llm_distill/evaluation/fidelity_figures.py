"""Generalisation against fidelity as a table, and as a plot of the gain against the agreement."""

from __future__ import annotations

from collections.abc import Mapping

from llm_distill.evaluation.result_rows import Figure, Kind
from llm_distill.evaluation.results import FigureTable
from llm_distill.methods.fidelity import Measure

KINDS: Mapping[str, Kind] = {
    "gain": "points", "kappa": "number", "probability loyalty": "number",
    "regression loyalty": "number", "explained": "number", "error": "number", "bias": "number",
}  # fmt: skip
"""The others are shares."""
ORDER = (
    "right", "gain", "agreement", "kappa", "where the teacher is wrong",
    "where the teacher is right", "probability loyalty", "regression loyalty", "explained", "error",
    "bias",
)  # fmt: skip


def fidelity_table(
    teacher: str, of: Mapping[tuple[str, int], Mapping[str, Measure]]
) -> FigureTable:
    """of: by student and number of worked examples what `methods.fidelity.fidelity` found."""
    has_gain = any("gain" in measures for measures in of.values())
    several = len({shots for _, shots in of}) > 1
    figures = []
    for (name, shots), measures in of.items():
        labels = {"model": name} | ({"shots": str(shots)} if several else {})
        for measure in (each for each in ORDER if each in measures):
            found = measures[measure]
            figures.append(
                Figure(
                    {**labels, "of": measure},
                    found.estimate.value,
                    found.estimate.low,
                    found.estimate.high,
                    found.n,
                    KINDS.get(measure, "share"),
                )
            )
    drawn = ("agreement", "gain") if has_gain else ()
    return FigureTable(f"beside {teacher}", tuple(figures), across="of", drawn=drawn)
