"""What two models of different tokenizers say of the same span of text, as distributions.

A span is a piece of text that is made of whole tokens on both sides, such as an aligned chunk:

teacher [␣2, 1]   two distributions over its vocabulary, each with the token that follows
student [␣21]     one over another vocabulary
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

LEAST_FACTOR = 1e-8
"""A token's probability counts as this at least where it multiplies a distribution (GOLD's)."""


@dataclass(frozen=True)
class Side:
    """One model's next-token distributions at the N tokens of S spans, one span after another.

    logits: [N, V], which predict the tokens. targets: int64 [N], the tokens. sizes: int64 [S], how
    many of them each span has, 1 at least.
    """

    logits: torch.Tensor
    targets: torch.Tensor
    sizes: torch.Tensor

    @cached_property
    def logps(self) -> torch.Tensor:
        """[N, V]: log-probabilities."""
        return self.logits.log_softmax(-1)

    @cached_property
    def last(self) -> torch.Tensor:
        """int64 [S]: the place of each span's last token."""
        return self.sizes.cumsum(0) - 1

    @property
    def first(self) -> torch.Tensor:
        """int64 [S]: the place of each span's first token."""
        return self.last - self.sizes + 1

    def chosen(self, values: torch.Tensor) -> torch.Tensor:
        """[N]: of values [N, V] that of the token which follows."""
        return values.gather(1, self.targets[:, None]).squeeze(1)

    def sums(self, values: torch.Tensor) -> torch.Tensor:
        """[S, …]: values [N, …] summed over each span's tokens."""
        if len(values) == len(self.sizes):  # each span is one token
            return values
        of_token = torch.arange(len(self.sizes), device=values.device)
        of_token = of_token.repeat_interleave(self.sizes, output_size=len(values))
        total = values.new_zeros(len(self.sizes), *values.shape[1:])
        return total.index_add(0, of_token, values)

    def means(self, values: torch.Tensor) -> torch.Tensor:
        """[S, …]: values [N, …] averaged over each span's tokens."""
        sizes = self.sizes.to(values.dtype)
        return self.sums(values) / sizes.reshape(-1, *[1] * (values.ndim - 1))


def merged(side: Side) -> torch.Tensor:
    """[S, V]: p(token at the span's last place) · p(the span's own tokens before it).

    By the chain rule; so where a span has several tokens it does not sum to 1. This is the merge
    `bayesian` of GOLD.
    """
    factors = side.chosen(side.logps).exp().clamp(min=LEAST_FACTOR).log()
    is_before = torch.ones_like(factors)
    is_before[side.last] = 0.0
    return (side.logps[side.last] + side.sums(factors * is_before)[:, None]).exp()


def sorted_l1(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Σ |p − q| of p [S, V] and q [S, W], each sorted; the narrower one is filled up with zeros.

    The distance of ULD (arXiv 2402.12030), blind to which token has which probability.
    """
    width = max(p.shape[1], q.shape[1])
    p, q = (
        torch.nn.functional.pad(each.sort(1, descending=True).values, (0, width - each.shape[1]))
        for each in (p, q)
    )
    return (p - q).abs().sum()
