"""The losses by next-token distributions, the logits of a tile of positions at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch.utils.checkpoint import checkpoint

from llm_distill.distillation.lm_head.head import Head
from llm_distill.distillation.losses.loss import DistributionLoss

TILE = {"cpu": 2**21, "cuda": 2**25}
"""Logits in a tile. There are a few tensors of this size at once."""

LEAST_REST = 2.0**-23
"""What is left of a distribution after its stored tokens is not known better in float32."""


def divergences(
    teacher: torch.Tensor, student: torch.Tensor, losses: Iterable[DistributionLoss], beta: float
) -> dict[str, torch.Tensor]:
    """Of log-probabilities [N, K], summed over the positions; by the loss's name."""
    return {loss.name: loss.summed(teacher, student, beta) for loss in losses}


def divergences_from_logits(
    hidden: torch.Tensor,
    head: Head,
    teacher_hidden: torch.Tensor,
    teacher_head: Head,
    losses: Iterable[DistributionLoss],
    beta: float,
) -> dict[str, torch.Tensor]:
    """Over the whole vocabulary, the logits of a tile of positions at a time.

    hidden: [N, H]. teacher_hidden: [N, H of the teacher]. Where one model pads its vocabulary
    further than the other, the tokens that both have count.
    """
    size = min(len(head.weight), len(teacher_head.weight))
    losses = tuple(losses)

    def of_tile(part: torch.Tensor, of_teacher: torch.Tensor) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            teacher = teacher_head.logits(of_teacher.to(teacher_head.weight.dtype))
            teacher = teacher[:, :size].log_softmax(-1)
        student = head.logits(part)[:, :size].log_softmax(-1)
        return divergences(teacher, student, losses, beta)

    return _tiled(of_tile, hidden, teacher_hidden, width=size)


def divergences_from_top(
    hidden: torch.Tensor,
    head: Head,
    top_ids: torch.Tensor,
    top_logps: torch.Tensor,
    losses: Iterable[DistributionLoss],
    beta: float,
) -> dict[str, torch.Tensor]:
    """Over the teacher's k likeliest tokens and one bucket for all the others together.

    top_ids, top_logps: [N, k]. Merging tokens into a bucket can only lower a divergence.
    """
    losses = tuple(losses)

    def of_tile(
        part: torch.Tensor, ids: torch.Tensor, logps: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        logits = head.logits(part)
        if ids.shape[-1] == logits.shape[-1]:  # there are no others but the teacher's padding
            student = logits.gather(-1, ids).log_softmax(-1)
            return divergences(logps.log_softmax(-1), student, losses, beta)
        rest = logits.scatter(-1, ids, -torch.inf).logsumexp(-1, keepdim=True)
        student = torch.cat([logits.gather(-1, ids), rest], -1).log_softmax(-1)
        left = (1 - logps.exp().sum(-1, keepdim=True)).clamp(min=LEAST_REST)
        teacher = torch.cat([logps, left.log()], -1).log_softmax(-1)
        return divergences(teacher, student, losses, beta)

    return _tiled(of_tile, hidden, top_ids, top_logps, width=len(head.weight))


def _tiled(
    of_tile: Callable[..., dict[str, torch.Tensor]], *tensors: torch.Tensor, width: int
) -> dict[str, torch.Tensor]:
    """Sums over tiles of positions; a tile's logits are computed anew in the backward pass."""
    height = max(1, TILE["cpu" if tensors[0].device.type == "cpu" else "cuda"] // width)
    found: dict[str, torch.Tensor] = {}
    for start in range(0, max(1, len(tensors[0])), height):
        tile = [tensor[start : start + height] for tensor in tensors]
        sums = checkpoint(of_tile, *tile, use_reentrant=False)
        found = {name: found.get(name, 0.0) + value for name, value in sums.items()}
    return found
