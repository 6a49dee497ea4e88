"""What the student's texts are like, for the history; and when to stop.

Where a student learns from its own texts, they may grow longer until most are cut: then what it
learns from is what it wrote in circles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from llm_distill.distillation.rollouts.rows import Written
from llm_distill.errors import ModelError
from llm_distill.methods.collapse import repeated

TRUNCATED = "rollouts/truncated"
NAMES = ("rollouts/tokens", TRUNCATED, "rollouts/empty", "rollouts/repeated", "rollouts/left_out")
"""In the history: the mean number of tokens, without the end; and shares of the texts: cut by
max_tokens; without any text; the mean share of 4-grams that a text has had before; and those that
could not be compared with the teacher, or not to their end."""


def nothing_written() -> torch.Tensor:
    """Sums over texts before the first: their number, and those of `NAMES`."""
    return torch.zeros(1 + len(NAMES), dtype=torch.float64)


def sums(texts: Sequence[Written | None], n_left_out: int) -> torch.Tensor:
    """float64 [1 + NAMES]. None: a text that its engine did not write, which is left out."""
    total = nothing_written()
    for written in texts:
        if written is None:
            total[0] += 1
            continue
        said = written.ids[:-1] if written.finish == "end" else written.ids
        cut, empty = written.finish == "length", not said
        total += torch.tensor([1, len(said), cut, empty, repeated(said), 0], dtype=torch.float64)
    total[-1] += n_left_out
    return total


def means(total: torch.Tensor) -> dict[str, float]:
    """By name; nothing where nothing was written."""
    n, *others = total.tolist()
    return {name: value / n for name, value in zip(NAMES, others, strict=True)} if n else {}


def check_length(
    history: Sequence[Mapping[str, float]], now: Mapping[str, float], most: float
) -> None:
    """That texts have not grown out of max_tokens.

    history: the points before. most: `RolloutSettings.max_truncated`.

    Raises:
        ModelError: they have.
    """
    first = next((point[TRUNCATED] for point in history if TRUNCATED in point), None)
    cut = now.get(TRUNCATED)
    if cut is None or first is None or cut <= most or cut < 2 * first:
        return
    raise ModelError(
        f"{cut:.0%} of what the student writes is cut by rollouts.max_tokens, {first:.0%} was at "
        "first: its texts grow until they do not end. Lower learning_rate, set rollouts.truncated: "
        "drop, lower rollouts.share so that other rows keep the teacher's text, or raise "
        f"rollouts.max_tokens; rollouts.max_truncated (now {most:g}) says when to stop"
    )
