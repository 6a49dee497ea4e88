"""How far a training moved the model: its figures on held-out rows, before and after.

history: {"step": 0, "eval_loss": 0.69}, {"step": 1, "loss": 0.68}, …, {"step": 40, "eval_loss": …}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llm_distill.evaluation.result_rows import Figure
from llm_distill.evaluation.results import FigureTable

TITLE = "Held-out rows before and after"
NOTHING = 1e-3
"""A loss that changes by a smaller share than this has not moved."""
SHARES = {
    "eval_mean_token_accuracy": "tokens that are the likeliest",
    "eval_rewards/accuracies": "pairs whose chosen answer gained more",
}
NUMBERS = {
    "eval_loss": "loss",
    "eval_rewards/margins": "margin: beta times how much more it gained",
}
OF_THE_CHANGE = ("eval_rewards/accuracies", "eval_rewards/margins")
"""What compares with the untrained model, and says nothing of that itself."""

Point = Mapping[str, float]


def before_and_after(history: Sequence[Point], best_step: int | None) -> tuple[Point, Point] | None:
    """The points before the first step and after the last, or after the one that was kept."""
    measured = {point["step"]: point for point in history if "eval_loss" in point}
    if 0 not in measured or len(measured) < 2:
        return None
    last = max(measured) if best_step not in measured else best_step
    return measured[0], measured[last or 0]


def table(before: Point, after: Point, n_rows: int) -> FigureTable:
    """Their figures under plain names."""
    figures = []
    for name, called in (NUMBERS | SHARES).items():
        for when, point in (("before", before), ("after", after)):
            if name not in point or (when == "before" and name in OF_THE_CHANGE):
                continue
            figures.append(
                Figure(
                    labels={"figure": called, "when": when},
                    value=round(point[name], 6),
                    n=n_rows,
                    kind="share" if name in SHARES else "number",
                )
            )
    return FigureTable(TITLE, tuple(figures))


def warning(before: Point, after: Point) -> str | None:
    """What to say of a model that has not moved."""
    old, new = before["eval_loss"], after["eval_loss"]
    if abs(new - old) > NOTHING * abs(old):
        return None
    return (
        f"the loss on held-out rows is {old:.5g} before and {new:.5g} after: the training has "
        "hardly moved the model. Raise learning_rate (an adapter wants about ten times the rate of "
        "a full training) or num_train_epochs"
    )
