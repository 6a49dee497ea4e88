"""What is drawn of the stages that say which skills a student lacks."""

from __future__ import annotations

from llm_distill.report.charts import Share, Shares
from llm_distill.report.collect import RunView, StageView
from llm_distill.report.figures import MOST_GROUPS, Drawing

ENDS = (0.1, 0.2, 0.4, 0.6, 0.8)
"""Where an axis may end before 100 %: its quarters have short labels."""


def profiles(run: RunView) -> list[Drawing]:
    """The weight of each missing skill, the most frequent first, of every skill profile."""
    return [figure for stage in run.stages if (figure := _profile(stage)) is not None]


def _profile(stage: StageView) -> Drawing | None:
    rows = stage.results.skills
    if not rows:
        return None
    several = len({row.task for row in rows}) > 1  # the skill first: long names are cut
    shares = {
        f"{row.skill} ({row.task})" if several else row.skill: {
            "weight": Share(row.weight, row.weight_low, row.weight_high)
        }
        for row in rows[:MOST_GROUPS]
    }
    highest = max(row.weight_high for row in rows[:MOST_GROUPS])
    end = next((end for end in ENDS if highest <= end), 1.0)
    left = len(rows) - len(shares)
    note = f"The {MOST_GROUPS} most frequent; {left} more are not drawn. " if left else ""
    return Drawing(
        stage.name,
        f"{stage.name}: missing skills",
        Shares("missing skill", shares, end),
        f"{note}Share of all labels, with 95 % intervals over questions.",
    )
