"""How far a student's likelihoods of chunks are from the teacher's (ALM, arXiv 2503.20083).

With C_T, C_S the log-probabilities of a chunk, p = exp(C_T / τ) and q = exp(C_S / τ), a chunk's
loss is τ (f(p ‖ q) + f(1 − p ‖ 1 − q)). The factor τ is this project's: without it gradients shrink
as 1/τ, and another loss added to this one would outweigh it.
"""

from __future__ import annotations

import math
from typing import Literal, assert_never

import torch

# The log-probability of a token is the difference of two numbers of the size of a logit (tens), so
# float32 has an error of about 2e-6. Closer to 0 than EPSILON it is noise, which the gradient would
# scale by 1 / EPSILON.
EPSILON = 1e-5
LOWEST = -1e4  # stands for the -inf of an impossible chunk


def chunk_sums(logps: torch.Tensor, chunk_of: torch.Tensor, n_chunks: int) -> torch.Tensor:
    """The sum of the log-probabilities of each chunk's tokens, differentiable.

    Args:
        logps: [N], of each token. They are summed in float32 (in float64 if they are float64): in
            bfloat16 a sum would lose the small terms.
        chunk_of: [N], the chunk of each token, -1 for none.

    Returns:
        [n_chunks].
    """
    dtype = torch.promote_types(logps.dtype, torch.float32)
    sums = torch.zeros(n_chunks + 1, dtype=dtype, device=logps.device)
    places = torch.where(chunk_of < 0, n_chunks, chunk_of)  # no mask: that would wait for the GPU
    return sums.index_add(0, places, logps.to(dtype))[:n_chunks]


def chunk_divergence(
    teacher: torch.Tensor,
    student: torch.Tensor,
    temperature: float,
    kind: Literal["kl", "tvd"] = "kl",
) -> torch.Tensor:
    """The loss of each chunk, at least 0.

    Likelihoods from 0 to 1 have a finite loss and gradient. Log-probabilities are clamped to LOWEST
    and −EPSILON; a clamped one of the student has no gradient. Where both are equal, the loss and
    the gradient are exactly 0.

    Args:
        teacher: [C], log-probabilities, without gradients.
        student: [C], log-probabilities.
        temperature: τ, above 0. math.inf gives the limit: with a = −C_T and b = −C_S,
            b − a + a ln(a / b) or |b − a|.
        kind: f(p ‖ q) is p log(p / q) for "kl", and |p − q| / 2 for "tvd", so that the loss is the
            total variation.

    Returns:
        [C], float32 (float64 if the student is float64).
    """
    dtype = torch.promote_types(student.dtype, torch.float32)
    clamped = student.to(dtype).clamp(LOWEST, -EPSILON)
    with torch.no_grad():
        a, b = -teacher.to(dtype).clamp(LOWEST, -EPSILON), -clamped
        failure_a, failure_b = _scaled_failure(a, temperature), _scaled_failure(b, temperature)
        if kind == "kl":
            ratio = failure_a / failure_b
            loss = torch.exp(-a / temperature) * (b - a) + failure_a * ratio.log()
            slope = ratio - 1
        elif kind == "tvd":
            loss = (failure_b - failure_a).abs()
            slope = torch.sign(failure_a - failure_b) * torch.exp(-b / temperature)
        else:
            assert_never(kind)
        loss = loss.clamp(min=0)  # it may round to just below
    # The slope in closed form: autograd's, through the logarithms, is only nearly 0 for equals.
    return loss + slope * (clamped - clamped.detach())


def _scaled_failure(surprisal: torch.Tensor, temperature: float) -> torch.Tensor:
    """τ (1 − exp(−surprisal / τ)), and the surprisal itself for an infinite τ."""
    if math.isinf(temperature):
        return surprisal
    return -temperature * torch.expm1(-surprisal / temperature)
