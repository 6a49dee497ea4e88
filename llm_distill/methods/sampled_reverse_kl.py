"""Reverse KL of a student to a teacher, from one log-probability a sampled token of each side.

The student's own texts are cut into chunks, the pieces that are whole tokens on both sides; with
one tokenizer a chunk is a token. With C_T and C_S the log-probabilities of a chunk, r = C_T − C_S
is its reward, and Σ −r over a text is log q − log p of it. The gradient is that of a policy: a
token's advantage times the gradient of its log-probability. Nothing here has a gradient itself.
"""

from __future__ import annotations

import torch

IW_GAMMA = 0.5
"""How much more the first token of a text counts than the last, as in IW-OPD (arXiv 2606.22600)."""
MOST_LOG_RATIO = 20.0
"""Beyond it, exp would leave the range in which sums of squares are exact enough to be shown."""


def chunk_rewards(
    teacher: torch.Tensor,
    student: torch.Tensor,
    writer: torch.Tensor | None = None,
    scale: float = 1.0,
) -> torch.Tensor:
    """λ (C_T − C_W) − (C_S − C_W): [C], of the log-probabilities [C] of chunks.

    writer: the policy that wrote the text; only needed where scale (λ) is not 1. The policy that is
        best by these rewards over whole texts is ∝ w (p / w)^λ (ExOPD, arXiv 2602.12125): above 1
        it goes past the teacher, below 1 it stays closer to the writer, by a reverse KL to it of
        weight (1 − λ) / λ.
    """
    if scale == 1.0:
        return teacher - student
    if writer is None:
        raise ValueError("a scale other than 1 needs the writer's log-probabilities")
    return scale * (teacher - writer) - (student - writer)


def returns(rewards: torch.Tensor, row_of: torch.Tensor) -> torch.Tensor:
    """Each chunk's reward with all later ones of its row: [C]. row_of: [C], ascending."""
    return _until_here(rewards.flip(0), row_of.flip(0)).flip(0)


def mean_returns(rewards: torch.Tensor, row_of: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """Each chunk's reward, with the mean a token of all later ones of its row: [C].

    r_k + Σ_{j > k} r_j / Σ_{j > k} n_j: MiniLLM's length normalisation (arXiv 2306.08543, section
    2.2), which divides what follows a token by the number of tokens that follow. In `returns` an
    early token answers for as many rewards as the text is long, most of them negative, so that
    short texts pay. row_of: as there. sizes: [C], the student's tokens in each chunk, n_j.
    """
    later = returns(rewards, row_of) - rewards
    n_later = (returns(sizes.double(), row_of) - sizes).to(rewards.dtype)
    return rewards + torch.where(n_later > 0, later / n_later.clamp(min=1), 0.0)


def sizes_of_chunks(chunk_of: torch.Tensor, n_chunks: int) -> torch.Tensor:
    """How many tokens each chunk has, int64 [C]; chunk_of: [N], −1 for none."""
    return torch.bincount(chunk_of[chunk_of >= 0], minlength=n_chunks)


def rows_of_chunks(row_of: torch.Tensor, chunk_of: torch.Tensor, n_chunks: int) -> torch.Tensor:
    """The row of each chunk, [C], from those of its tokens, [N]; chunk_of: −1 for none."""
    found = row_of.new_zeros(n_chunks + 1)
    found[torch.where(chunk_of < 0, n_chunks, chunk_of)] = row_of
    return found[:n_chunks]


def begins_in(is_in: torch.Tensor, chunk_of: torch.Tensor, n_chunks: int) -> torch.Tensor:
    """Bool [C]: the chunk's first token is among those of `is_in`, bool [N]; chunk_of: [N]."""
    place = torch.where(chunk_of < 0, n_chunks, chunk_of)
    index = torch.arange(len(chunk_of), device=chunk_of.device)
    first = index.new_full((n_chunks + 1,), len(index)).scatter_reduce(0, place, index, "amin")
    padded = torch.cat([is_in, is_in.new_zeros(1)])
    return padded[first[:n_chunks]]


def token_advantages(
    values: torch.Tensor,
    chunk_of: torch.Tensor,
    answers_for: torch.Tensor | None = None,
) -> torch.Tensor:
    """By token, [N], the value of its chunk, and 0 outside of chunks.

    values: [C]. chunk_of: [N], −1 for none. answers_for: [N], the chunk whose value it is given
        instead, see `first_tokens_answer`.
    """
    place = chunk_of if answers_for is None else answers_for
    padded = torch.cat([values, values.new_zeros(1)])
    return padded[torch.where(chunk_of < 0, len(values), place)]


def first_tokens_answer(
    chunk_of: torch.Tensor, positions: torch.Tensor, is_token: torch.Tensor
) -> torch.Tensor:
    """[N]: a token's chunk, or the one before it for a chunk's first token.

    That token decides that the chunk before is over: had it been another, the teacher's tokens
    might have gone on. Where teacher and student have the same tokens it decides nothing.

    positions: [N], ascending; what is not next to each other is apart. is_token: bool [C], a chunk
        is one token, the same on both sides.
    """
    before = torch.cat([chunk_of.new_full((1,), -1), chunk_of[:-1]])
    follows = torch.zeros_like(chunk_of, dtype=torch.bool)
    follows[1:] = positions[1:] == positions[:-1] + 1
    padded = torch.cat([is_token, is_token.new_ones(1)])
    may_move = ~padded[torch.where(chunk_of < 0, len(is_token), chunk_of)]
    is_first = (before >= 0) & (before == chunk_of - 1) & follows & may_move
    return torch.where(is_first, before, chunk_of)


def spread_over_tokens(
    rewards: torch.Tensor, logps: torch.Tensor, sums: torch.Tensor, chunk_of: torch.Tensor
) -> torch.Tensor:
    """A chunk's reward over its tokens by their share of its log-probability: [N].

    The shares of a chunk sum to its reward (arXiv 2606.09456). sums: [C], of `logps` [N] by chunk.
    """
    if not len(sums):
        return torch.zeros_like(logps)
    is_in, place = chunk_of >= 0, chunk_of.clamp(min=0)
    sizes = torch.zeros_like(sums).index_add(0, place, is_in.to(sums.dtype))
    total, size = sums[place], sizes[place].clamp(min=1)
    share = torch.where(total < 0, logps / torch.where(total < 0, total, 1.0), 1 / size)
    return torch.where(is_in, rewards[place] * share, 0.0)


def importance_ratios(student: torch.Tensor, writer: torch.Tensor) -> torch.Tensor:
    """Q / q_old by token, [N]; 1 where the writer's log-probability is not known (NaN)."""
    log_ratio = (student - writer).clamp(-MOST_LOG_RATIO, MOST_LOG_RATIO)
    return torch.where(writer.isnan(), torch.zeros_like(log_ratio), log_ratio).exp()


def position_weights(advantages: torch.Tensor, row_of: torch.Tensor) -> torch.Tensor:
    """1 + γ (1 − the share of the row's |advantage| that lies before the token): [N].

    Early tokens count more, since whatever follows goes on from them (IW-OPD). row_of: [N].
    """
    sizes = advantages.abs()
    up_to = _until_here(sizes, row_of)
    totals = torch.zeros_like(sizes).index_add(0, _numbered(row_of), sizes)[_numbered(row_of)]
    share = torch.where(totals > 0, (up_to - sizes) / torch.where(totals > 0, totals, 1.0), 0.0)
    return 1 + IW_GAMMA * (1 - share)


def effective_share(total: float, squares: float, n: float) -> float:
    """(Σρ)² / (n Σρ²), from 1/n to 1: how many of n samples are as good as all with unlike ρ."""
    return total**2 / (n * squares) if n and squares else 1.0


def _until_here(values: torch.Tensor, row_of: torch.Tensor) -> torch.Tensor:
    """Sums of each row's values up to each, itself included; rows stand together."""
    sums = values.double().cumsum(0)
    row = _numbered(row_of)
    is_first = torch.ones_like(row, dtype=torch.bool)
    is_first[1:] = row[1:] != row[:-1]
    starts = torch.where(is_first, sums - values.double(), 0.0)
    before = torch.zeros_like(sums).index_add(0, row, starts)
    return (sums - before[row]).to(values.dtype)


def _numbered(row_of: torch.Tensor) -> torch.Tensor:
    """Rows that stand together, numbered from 0."""
    changes = torch.zeros_like(row_of)
    changes[1:] = (row_of[1:] != row_of[:-1]).to(row_of.dtype)
    return changes.cumsum(0)
