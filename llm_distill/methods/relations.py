"""How alike the relations between the tokens of a text are in two models (MiniLM, MiniLMv2).

A relation is a matrix of distributions: row t is softmax(x_t · yᵀ / √d) over the tokens that t may
look at. X and Y are what a layer's projections give of each token: queries and keys (attention), or
one of queries, keys and values twice. Widths may differ between the models, since d drops out; the
number of heads may not.
"""

from __future__ import annotations

import torch
from torch.utils.checkpoint import checkpoint

TILE = {"cpu": 2**21, "cuda": 2**25}
"""Entries of a relation in memory at once; there are a few tensors of this size."""

Pair = tuple[torch.Tensor, torch.Tensor]
"""X and Y of a relation, [B, A, T, d] each, for B texts of T tokens and A heads of width d."""


def split_heads(states: torch.Tensor, n_heads: int) -> torch.Tensor:
    """[B, T, W] to [B, n_heads, T, W / n_heads]: MiniLMv2's relation heads (2012.15828).

    With a model's own number of heads they are its heads.

    Raises:
        ValueError: n_heads does not divide W.
    """
    n_texts, length, width = states.shape
    if width % n_heads:
        raise ValueError(f"{n_heads} heads do not divide a width of {width}")
    return states.view(n_texts, length, n_heads, width // n_heads).transpose(1, 2)


def rows_that_count(mask: torch.Tensor, *, causal: bool) -> torch.Tensor:
    """Bool [B, T]: the tokens of the text; where they see no later ones, not the first.

    It sees itself alone, so its row is the same in any model.

    mask: bool [B, T], false where a text is padded, on whichever side.
    """
    return mask & (mask.cumsum(-1) > 1) if causal else mask


def relation_logps(pair: Pair, allowed: torch.Tensor) -> torch.Tensor:
    """The logarithms of a relation's rows, [B, A, t, T], in float32.

    pair: X has t of the T rows. allowed: bool, broadcast to [B, 1, t, T]; what is not allowed is
    left out before the softmax. Rows without anything allowed are finite, and mean nothing.
    """
    queries, keys = (states.float() for states in pair)
    scores = queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5
    return scores.masked_fill(~allowed, torch.finfo(scores.dtype).min).log_softmax(-1)


def relation_divergence(
    teacher: Pair, student: Pair, mask: torch.Tensor, *, causal: bool, tile: int | None = None
) -> torch.Tensor:
    """Σ KL(teacher's row ‖ student's row), over the rows that count, a mean over heads; a scalar.

    MiniLM (2002.10957, self-attention distribution and value-relation transfer) and MiniLMv2
    (2012.15828, relation distillation), before their division by the number of rows. That a
    decoder's first row does not count is this project's.

    Args:
        teacher, student: with as many heads, of any width.
        mask: bool [B, T], see `rows_that_count`.
        causal: whether a token sees none after itself.
        tile: entries of a relation in memory at once; more are computed a few rows at a time, and
            again in the backward pass.
    """
    counted = rows_that_count(mask, causal=causal)
    n_texts, n_heads, length, _ = student[0].shape
    places = torch.arange(length, device=mask.device)
    most = tile or TILE["cpu" if mask.device.type == "cpu" else "cuda"]
    height = max(1, most // (n_texts * n_heads * length))

    def of_rows(start: int, *given: torch.Tensor) -> torch.Tensor:
        rows = slice(start, start + height)
        allowed = mask[:, None, None, :]
        if causal:
            allowed = allowed & (places <= places[rows, None])
        wanted, found = (
            relation_logps((queries[:, :, rows], keys), allowed)
            for queries, keys in (given[:2], given[2:])
        )
        # 0 · (−∞ + ∞) is not 0, so what is not allowed is put to 0 itself.
        apart = (wanted - found).masked_fill(~allowed, 0.0)
        divergence = (wanted.exp() * apart).sum(-1).mean(1)
        return divergence.masked_fill(~counted[:, rows], 0.0).sum()

    tensors = [states.detach() for states in teacher] + list(student)
    total = torch.zeros((), device=mask.device)
    for start in range(0, length, height):
        total = total + checkpoint(of_rows, start, *tensors, use_reentrant=False)
    return total
