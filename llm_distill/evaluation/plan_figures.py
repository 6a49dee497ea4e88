"""A plan of new training data as a table: a line for each skill, the most rows first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from llm_distill.evaluation.results import Figure, FigureTable
from llm_distill.methods.data_plan import Leaf, Skill, Tally
from llm_distill.methods.plan_rows import leaf_of
from llm_distill.methods.skill_selection import skill_name


def plan_table(
    rows: Sequence[Mapping[str, Any]], tallies: Mapping[Skill, Tally], made: Mapping[Leaf, int]
) -> FigureTable:
    """Rows planned by skill, the share of all, what is made so far, and what the student got wrong.

    Args:
        rows: of `plan_data`.
        tallies: the student's answers; empty where the policy does not look at them.
        made: by skill or part of one, the rows that earlier plans have led to; empty where nobody
            counts them.
    """
    planned: Counter[Leaf] = Counter()
    for row in rows:
        planned[leaf_of(row)] += row["n"]
    total = planned.total()
    tasks = {leaf[0] for leaf in planned}
    figures: list[Figure] = []
    for key, n in sorted(planned.items(), key=lambda item: (-item[1], item[0])):
        name = skill_name(key[1:] if len(tasks) == 1 else key)

        def labels(figure: str, name: str = name) -> dict[str, str]:
            return {"skill": name, "figure": figure}

        figures.append(Figure(labels("rows"), n))
        if total:
            figures.append(Figure(labels("share"), n / total, kind="share"))
        if made:
            figures.append(Figure(labels("made so far"), made.get(key, 0)))
        found = None if key[2] else tallies.get(key[:2])
        if found is not None:
            share = found.n_wrong / found.n_items
            figures.append(Figure(labels("wrong"), share, n=found.n_items, kind="share"))
    return FigureTable("planned rows", tuple(figures), across="figure")
