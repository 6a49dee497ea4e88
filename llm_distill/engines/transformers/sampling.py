"""Draw one token a row, each row by its own settings and its own stream of random numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from llm_distill.engines.base import SamplingSettings


class RowSampler:
    """Inverse-CDF sampling: a row's uniform number picks the token, so a batch cannot change it.

    The numbers are drawn on the CPU, ahead and in blocks: they are the same on every device, and no
    generator is called once a token.
    """

    BLOCK = 64

    def __init__(self, settings: Sequence[SamplingSettings], seeds: Sequence[int]) -> None:
        self._temperature = torch.tensor([s.temperature for s in settings])
        self._top_k = torch.tensor([s.top_k for s in settings])
        self._top_p = torch.tensor([s.top_p for s in settings])
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._uniform = torch.empty(len(settings), 0)

    def draw(self, logits: torch.Tensor, rows: torch.Tensor, step: int) -> torch.Tensor:
        """Tokens [n] for logits [n, vocabulary] in fp32 of the batch's `rows` [n] at `step`.

        Temperature 0 takes the largest logit; ties go to the lowest token id.
        """
        greedy = logits.argmax(-1)
        temperature = self._temperature[rows].to(logits.device)
        if not (temperature > 0).any():
            return greedy
        scaled = logits / temperature.clamp(min=1e-6)[:, None]
        probabilities = self._truncate(scaled, rows).softmax(-1)
        cumulative = probabilities.cumsum(-1)
        # Scaled by the sum, which rounding keeps from being 1. The numbers are at most 1 - 2^-24:
        # the product, rounded as well, is below the sum, and finds no token that was taken out.
        point = self._numbers(rows, step).to(logits.device) * cumulative[:, -1]
        drawn = torch.searchsorted(cumulative, point[:, None], right=True)[:, 0]
        return torch.where(temperature > 0, drawn, greedy)

    def _numbers(self, rows: torch.Tensor, step: int) -> torch.Tensor:
        if step >= self._uniform.shape[1]:
            block = [torch.rand(self.BLOCK, generator=g) for g in self._generators]
            self._uniform = torch.cat([self._uniform, torch.stack(block)], dim=1)
        return self._uniform[rows, step]

    def _truncate(self, logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Top-k, then top-p on what is left; the likeliest token always stays."""
        top_k, top_p = self._top_k[rows], self._top_p[rows]
        if not ((top_k > 0).any() or (top_p < 1).any()):
            return logits
        ordered, order = logits.sort(dim=-1, descending=True, stable=True)
        rank = torch.arange(logits.shape[-1], device=logits.device)
        k = torch.where(top_k > 0, top_k, logits.shape[-1]).to(logits.device)
        ordered = ordered.masked_fill(rank >= k[:, None], -torch.inf)
        mass = ordered.softmax(-1)
        before = mass.cumsum(-1) - mass
        # Not 1: the rounded sum may reach 1 before the last token.
        top_p = torch.where(top_p < 1, top_p, torch.inf).to(logits.device)
        outside = (before >= top_p[:, None]) & (rank > 0)
        ordered = ordered.masked_fill(outside, -torch.inf)
        return torch.empty_like(logits).scatter_(-1, order, ordered)
