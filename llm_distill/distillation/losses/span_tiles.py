"""The losses from both sides' whole distributions over spans of text, a tile at a time.

As in `divergence`: a tile is a few spans with the logits of both models at all of their tokens, and
is computed again in the backward pass. The largest span bounds what is in memory, not the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch.utils.checkpoint import checkpoint

from llm_distill.distillation.losses.divergence import TILE
from llm_distill.methods.span_distributions import Side

if TYPE_CHECKING:
    from llm_distill.distillation.lm_head.head import Head
    from llm_distill.distillation.losses.loss import Batch, SpanSums
    from llm_distill.methods.shared_tokens import SharedTokens


def losses_of_spans(
    hidden: torch.Tensor,
    head: Head,
    teacher_hidden: torch.Tensor,
    teacher_head: Head,
    batch: Batch,
    shared: SharedTokens,
    losses: SpanSums,
) -> dict[str, torch.Tensor]:
    """Summed over the batch's spans; by the loss's name.

    hidden: [L, H], of the labelled tokens. teacher_hidden: [K, H of the teacher], of the teacher's
    tokens in the loss. batch: with what `span_columns` lists. Models may have more rows in the
    output layer than there are tokens: these do not count.
    """
    own = batch["span_tokens"], batch["span_sizes"]
    other = batch["teacher_span_tokens"], batch["teacher_span_sizes"]
    targets = batch["targets"][batch["labelled"]], batch["teacher_targets"]

    def side(of: Head, size: int, tile: Sequence[torch.Tensor]) -> Side:
        states, follows, sizes = tile
        return Side(of.logits(states)[:, :size], follows, sizes)

    def of_tile(*tile: torch.Tensor) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            teacher = side(teacher_head, shared.same.n_teacher, tile[3:])
        student = side(head, shared.same.n_student, tile[:3])
        return {name: summed(teacher, student, shared) for name, summed in losses.items()}

    found = {name: hidden.sum() * 0.0 for name in losses}
    for spans, tokens, others in _tiles(own[1], other[1], shared, hidden.device):
        at, to = own[0][tokens], other[0][others]
        tile = [hidden[at], targets[0][at], own[1][spans]]
        tile += [teacher_hidden[to].to(teacher_head.weight.dtype), targets[1][to], other[1][spans]]
        sums: Mapping[str, torch.Tensor] = checkpoint(of_tile, *tile, use_reentrant=False)
        found = {name: found[name] + value for name, value in sums.items()}
    return found


def _tiles(
    sizes: torch.Tensor, others: torch.Tensor, shared: SharedTokens, device: torch.device
) -> list[tuple[slice, slice, slice]]:
    """Spans that follow each other, with their tokens on either side."""
    ours, theirs = ([0, *each.cumsum(0).tolist()] for each in (sizes, others))
    limit = TILE["cpu" if device.type == "cpu" else "cuda"]
    found, start = [], 0
    for end in range(1, len(ours)):
        following = min(end + 1, len(ours) - 1)
        n_own, n_other = ours[following] - ours[start], theirs[following] - theirs[start]
        is_full = n_own * shared.same.n_student + n_other * shared.same.n_teacher > limit
        if is_full or end == len(ours) - 1:
            slices = (start, end), (ours[start], ours[end]), (theirs[start], theirs[end])
            found.append((slice(*slices[0]), slice(*slices[1]), slice(*slices[2])))
            start = end
    return found
