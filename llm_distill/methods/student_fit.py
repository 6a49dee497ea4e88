"""How well a text fits a student, from what a forward pass of the student says of its tokens.

s is a token's surprisal, −log p, in nats; NLL its mean over the text's tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def mean_nll(logps: Sequence[float]) -> float:
    """Of a text's log-probabilities, one a token."""
    return -sum(logps) / len(logps)


def ifd(nll: float, nll_alone: float) -> float | None:
    """Instruction-Following Difficulty (arXiv 2308.12032): NLL(A given Q) / NLL(A alone).

    Above 1 the question makes the answer less likely. None where A alone is no surprise at all.
    """
    return nll / nll_alone if nll_alone > 0 else None


def rsr(mean_rank: float, nll: float) -> float | None:
    """Rank-Surprisal Ratio (arXiv 2601.14249): Σ rank / Σ s, here of the means of both.

    Each rank counts as at most r_max. Where s goes to 0 it grows without limit: the student knows
    the text already. None where there is no surprise at all.
    """
    return mean_rank / nll if nll > 0 else None


def mean_cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    """The mean cosine over all pairs of a vector of a [n, H] and one of b [m, H].

    That is the dot product of the two means of unit vectors: no n × m matrix is made.
    """
    first, second = (_unit(vectors).mean(0) for vectors in (a, b))
    return float(first @ second)


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    vectors = vectors.double()
    return vectors / vectors.norm(dim=1, keepdim=True).clamp_min(1e-12)


def scas(
    nll: float, nll_prompt: float, similarity: float, similarity_prompt: float, weight: float
) -> float:
    """SCAS (arXiv 2605.26872): (1 − λ) NLL_A² c(A, A) + λ NLL_A NLL_Q c(A, Q).

    Args:
        nll: of the answer A.
        nll_prompt: of the question Q.
        similarity: c(A, A), the mean cosine of A's tokens, each with itself included.
        similarity_prompt: c(A, Q).
        weight: λ.
    """
    return (1 - weight) * nll**2 * similarity + weight * nll * nll_prompt * similarity_prompt
