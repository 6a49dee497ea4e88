"""The losses from next-token distributions, a tile of positions at a time, in plain torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch.utils.checkpoint import checkpoint

from llm_distill.distillation.lm_head.head import Head

if TYPE_CHECKING:
    from llm_distill.distillation.losses.loss import Divergences

TILE = {"cpu": 2**21, "cuda": 2**25}
"""Logits in a tile. There are a few tensors of this size at once."""

LEAST_REST = 2.0**-23
"""What a distribution has beyond its stored tokens is not known better in float32."""


def divergences_from_logits(
    hidden: torch.Tensor,
    head: Head,
    teacher_hidden: torch.Tensor,
    teacher_head: Head,
    divergences: Divergences,
) -> dict[str, torch.Tensor]:
    """Over the whole vocabulary; by the loss's name.

    hidden: [N, H]. teacher_hidden: [N, H of the teacher]. Where one model pads its vocabulary
    further than the other, only the tokens that both have count.
    """
    size = min(len(head.weight), len(teacher_head.weight))

    def log_probabilities(
        part: torch.Tensor, of_teacher: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            teacher = teacher_head.logits(of_teacher.to(teacher_head.weight.dtype))
            teacher = teacher[:, :size].log_softmax(-1)
        return teacher, head.logits(part)[:, :size].log_softmax(-1)

    return _tiled(divergences, log_probabilities, hidden, teacher_hidden, width=size)


def divergences_from_top(
    hidden: torch.Tensor,
    head: Head,
    top_ids: torch.Tensor,
    top_logps: torch.Tensor,
    divergences: Divergences,
) -> dict[str, torch.Tensor]:
    """Over the teacher's k likeliest tokens and one bucket for all others; by the loss's name.

    top_ids, top_logps: [N, k]. Merging tokens into a bucket can only lower a divergence.
    """

    def log_probabilities(
        part: torch.Tensor, ids: torch.Tensor, logps: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits = head.logits(part)
        if ids.shape[-1] == logits.shape[-1]:  # there are no others but the teacher's padding
            return logps.log_softmax(-1), logits.gather(-1, ids).log_softmax(-1)
        rest = logits.scatter(-1, ids, -torch.inf).logsumexp(-1, keepdim=True)
        student = torch.cat([logits.gather(-1, ids), rest], -1).log_softmax(-1)
        left = (1 - logps.exp().sum(-1, keepdim=True)).clamp(min=LEAST_REST)
        return torch.cat([logps, left.log()], -1).log_softmax(-1), student

    tiled = hidden, top_ids, top_logps
    return _tiled(divergences, log_probabilities, *tiled, width=len(head.weight))


def _tiled(
    divergences: Divergences,
    log_probabilities: Callable[..., tuple[torch.Tensor, torch.Tensor]],
    *tensors: torch.Tensor,
    width: int,
) -> dict[str, torch.Tensor]:
    """Sums over tiles of positions; a tile's logits are recomputed in the backward pass.

    log_probabilities: those of teacher and student, of a tile of `tensors`.
    """

    def of_tile(*tile: torch.Tensor) -> dict[str, torch.Tensor]:
        teacher, student = log_probabilities(*tile)
        return {name: summed(teacher, student) for name, summed in divergences.items()}

    height = max(1, TILE["cpu" if tensors[0].device.type == "cpu" else "cuda"] // width)
    found: dict[str, torch.Tensor] = {}
    for start in range(0, max(1, len(tensors[0])), height):
        tile = [tensor[start : start + height] for tensor in tensors]
        sums = checkpoint(of_tile, *tile, use_reentrant=False)
        found = {name: found.get(name, 0.0) + value for name, value in sums.items()}
    return found
