"""How likely a model finds two continuations of one prompt: perplexities, gaps and wins.

The diagnostic of arXiv 2402.05000: of hints and solutions, exp(Σ nll / Σ tokens) of each. Longer
texts weigh more in it, so there is also what a pair says: nll a token, and which of them is lower.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from typing import NamedTuple

from llm_distill.methods.statistics import Estimate, ratio_of_sums


class Continued(NamedTuple):
    """Of a continuation: −log p in nats, and its tokens, at least one."""

    nll: float
    n_tokens: int

    @property
    def per_token(self) -> float:
        return self.nll / self.n_tokens


def perplexity(texts: Sequence[Continued]) -> Estimate:
    """exp(Σ nll / Σ tokens) over texts, with the percentile bootstrap interval over them."""
    found = ratio_of_sums([(text.nll, text.n_tokens) for text in texts])
    return Estimate(exp(found.value), exp(found.low), exp(found.high))


def gap(preferred: Continued, other: Continued) -> float:
    """How much lower the nll a token of the preferred one is, in nats; above 0: it is likelier."""
    return other.per_token - preferred.per_token


def win(preferred: Continued, other: Continued) -> float:
    """1 where the preferred one is likelier by token, 0 where the other is, and a half of a tie."""
    difference = gap(preferred, other)
    return 0.5 if difference == 0 else float(difference > 0)
