"""The losses from both sides' whole distributions over spans of text, a tile at a time.

As in `divergence`: a tile is a few spans with the logits of both models at all of their tokens, and
is computed again in the backward pass. The largest span bounds what is in memory, not the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.utils.checkpoint import checkpoint

from llm_distill.distillation.losses.divergence import TILE
from llm_distill.methods.span_distributions import Side

if TYPE_CHECKING:
    from llm_distill.distillation.lm_head.head import Head
    from llm_distill.distillation.losses.loss import Batch, SpanSums
    from llm_distill.methods.shared_tokens import SharedTokens

    Shared = Callable[[int], SharedTokens]
    """The tokens that both sides have, for spans of a kind; see `alignment.shared.Kind`."""


@dataclass(frozen=True)
class _Tokens:
    """A side's tokens in spans, one span after another: what predicts each, and how many a span.

    hidden: [N, H]. targets: int64 [N]. sizes: int64 [S].
    """

    hidden: torch.Tensor
    targets: torch.Tensor
    sizes: torch.Tensor


def losses_of_spans(
    hidden: torch.Tensor,
    head: Head,
    teacher_hidden: torch.Tensor,
    teacher_head: Head,
    batch: Batch,
    shared: Shared,
    losses: SpanSums,
) -> dict[str, torch.Tensor]:
    """Summed over the batch's spans; by the loss's name.

    hidden: [L, H], of the labelled tokens. teacher_hidden: [K, H of the teacher], of the teacher's
    tokens in the loss. batch: with what `batches.spans` lists. Models may have more rows in the
    output layer than there are tokens: these do not count.
    """
    found = {name: hidden.sum() * 0.0 for name in losses}
    targets = batch["targets"][batch["labelled"]]
    for kind in batch["span_kinds"].unique().tolist():
        is_kind = batch["span_kinds"] == kind
        own, other = (
            _chosen(batch[f"{side}span_tokens"], batch[f"{side}span_sizes"], is_kind)
            for side in ("", "teacher_")
        )
        student = _Tokens(hidden[own[0]], targets[own[0]], own[1])
        states = teacher_hidden[other[0]].to(teacher_head.weight.dtype)
        teacher = _Tokens(states, batch["teacher_targets"][other[0]], other[1])
        sums = _tiled(student, head, teacher, teacher_head, shared(kind), losses)
        found = {name: value + sums[name] for name, value in found.items()}
    return found


def _chosen(
    tokens: torch.Tensor, sizes: torch.Tensor, spans: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and sizes of these spans, bool [S]."""
    return tokens[spans.repeat_interleave(sizes)], sizes[spans]


def _tiled(
    student: _Tokens,
    head: Head,
    teacher: _Tokens,
    teacher_head: Head,
    shared: SharedTokens,
    losses: SpanSums,
) -> dict[str, torch.Tensor]:
    def side(of: Head, size: int, tile: Sequence[torch.Tensor]) -> Side:
        states, targets, sizes = tile
        return Side(of.logits(states)[:, :size], targets, sizes)

    def of_tile(*tile: torch.Tensor) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            theirs = side(teacher_head, shared.same.n_teacher, tile[3:])
        ours = side(head, shared.same.n_student, tile[:3])
        return {name: summed(theirs, ours, shared) for name, summed in losses.items()}

    found: dict[str, torch.Tensor] = {}
    for spans, own, other in _tiles(student.sizes, teacher.sizes, shared):
        tile = [student.hidden[own], student.targets[own], student.sizes[spans]]
        tile += [teacher.hidden[other], teacher.targets[other], teacher.sizes[spans]]
        sums = checkpoint(of_tile, *tile, use_reentrant=False)
        found = {name: found.get(name, 0.0) + value for name, value in sums.items()}
    return found


def _tiles(
    sizes: torch.Tensor, others: torch.Tensor, shared: SharedTokens
) -> list[tuple[slice, slice, slice]]:
    """Spans that follow each other, with their tokens on either side."""
    ours, theirs = ([0, *each.cumsum(0).tolist()] for each in (sizes, others))
    limit = TILE["cpu" if sizes.device.type == "cpu" else "cuda"]
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
