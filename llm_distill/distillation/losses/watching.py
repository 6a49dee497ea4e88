"""What losses show of themselves beside their values, summed between two points of the history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from llm_distill.distillation.losses.loss import TokenLoss, Watch
from llm_distill.distillation.losses.objective import WATCHED

if TYPE_CHECKING:
    from llm_distill.distillation.settings import DistillSettings

Sums = dict[str, torch.Tensor]


class Watching:
    """The sums since the last point of the history, of this process.

    is_first: whether what is added is of the first step, whose figures are shown apart.
    """

    def __init__(self, settings: DistillSettings) -> None:
        self._watches = watches(settings)
        self._since: Sums = {}
        self._at_start: Sums = {}
        self.is_first = False

    def add(self, sums: Sums) -> None:
        """A batch's, as `Objective.sums` names them."""
        for kept in [self._since, *[self._at_start] * self.is_first]:
            for name, value in sums.items():
                kept[name] = kept.get(name, torch.zeros_like(value)) + value.detach()

    def figures(self, accelerator: Any) -> dict[str, float]:
        """Those of all processes since this was asked last."""
        found: dict[str, float] = {}
        for sums, ending in ((self._since, ""), (self._at_start, "_at_start")):
            whole = {name: accelerator.reduce(sum_, "sum").item() for name, sum_ in sums.items()}
            for loss, watch in self._watches.items():
                own = f"{WATCHED}{loss}."
                of_loss = {n.removeprefix(own): v for n, v in whole.items() if n.startswith(own)}
                if of_loss:
                    figures = watch.figures(of_loss)
                    found |= {f"{name}{ending}": value for name, value in figures.items()}
        self._since, self._at_start = {}, {}
        return found


def watches(settings: DistillSettings) -> dict[str, Watch]:
    """By the name of the loss."""
    losses = settings.losses.named()
    return {each.name: each.watch for each in losses if isinstance(each, TokenLoss) and each.watch}


def warnings_of(settings: DistillSettings, history: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What is to be said of a training that is over."""
    for watch in watches(settings).values():
        yield from watch.warnings(history)
