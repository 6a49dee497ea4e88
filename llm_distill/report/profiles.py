"""What is drawn of the stages that say which skills a student lacks."""

from __future__ import annotations

from typing import Any

from llm_distill.report.charts import Share, Shares
from llm_distill.report.collect import RunView, StageView
from llm_distill.report.figures import MOST_GROUPS, Figure

SHARES = ("weight", "weight_low", "weight_high")
ENDS = (0.1, 0.2, 0.4, 0.6, 0.8)
"""Where an axis may end before 100 %: its quarters have short labels."""


def profiles(run: RunView) -> list[Figure]:
    """The weight of each missing skill, the most frequent first, of every skill profile."""
    return [figure for stage in run.stages if (figure := _profile(stage)) is not None]


def _profile(stage: StageView) -> Figure | None:
    rows = [row for row in stage.results.skills if _is_skill(row)]
    if not rows:
        return None
    several = len({row.get("task") for row in rows}) > 1  # the skill first: long names are cut
    shares = {
        f"{row['skill']} ({row.get('task')})" if several else str(row["skill"]): {
            "weight": Share(*(float(row[name]) for name in SHARES))
        }
        for row in rows[:MOST_GROUPS]
    }
    highest = max(float(row["weight_high"]) for row in rows[:MOST_GROUPS])
    end = next((end for end in ENDS if highest <= end), 1.0)
    left = len(rows) - len(shares)
    note = f"The {MOST_GROUPS} most frequent; {left} more are not drawn. " if left else ""
    return Figure(
        stage.name,
        f"{stage.name}: missing skills",
        Shares("missing skill", shares, end),
        f"{note}Share of all labels, with 95 % intervals over questions.",
    )


def _is_skill(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and "skill" in row
        and all(isinstance(row.get(name), int | float) for name in SHARES)
    )
