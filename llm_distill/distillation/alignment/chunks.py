"""What a teacher says of a row's chunks: the side of the ALM loss that does not change.

From "Cross-Tokenizer Distillation via Approximate Likelihood Matching" (arXiv 2503.20083).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from llm_distill.distillation.alignment.aligned import AlignedRow


@dataclass(frozen=True)
class TokenScores:
    """What a model says of a row's tokens, by their index in its `ids`; NaN outside of the loss.

    logps: float64 [T], log p(token | those before it).
    boundary_logps: float64 [T], log p(boundary | those up to the token): how likely a word
        ends after it.
    """

    logps: NDArray[np.float64]
    boundary_logps: NDArray[np.float64] | None


@dataclass(frozen=True)
class TeacherChunks:
    """The chunks that are compared, and the teacher's log-likelihood of each.

    logps: float32 [C]; where `is_open`, with log p(boundary) after the chunk's last token.
    is_open: bool [C], the chunk is debiased; one of end tokens, which nothing continues, never is.
    """

    aligned: AlignedRow
    logps: NDArray[np.float32]
    is_open: NDArray[np.bool_]


def at_tokens(
    n_tokens: int, index: NDArray[np.int64], values: NDArray[np.floating]
) -> NDArray[np.float64]:
    """float64 [n_tokens]: the values at the tokens that they are of, NaN elsewhere."""
    spread = np.full(n_tokens, np.nan)
    spread[index] = values
    return spread


def teacher_chunks(
    aligned: AlignedRow, scores: TokenScores, *, debias: bool, gamma: float
) -> TeacherChunks:
    """The chunks as they are compared, with the teacher's side of the comparison.

    debias: add log p(boundary), and merge chunks that the teacher ends with less than `gamma`.

    Raises:
        ValueError: debias without log p(boundary).
    """
    if not debias:
        nothing = np.zeros(len(aligned.is_end), np.bool_)
        return TeacherChunks(aligned, _sums(aligned, scores.logps).astype(np.float32), nothing)
    if scores.boundary_logps is None:
        raise ValueError("debiasing needs log p(boundary)")
    sure = aligned.is_end | (np.exp(scores.boundary_logps[aligned.teacher_last]) >= gamma)
    merged = merged_into_next(aligned, sure)
    is_open = ~merged.is_end
    ends = np.where(is_open, scores.boundary_logps[merged.teacher_last], 0.0)
    return TeacherChunks(merged, (_sums(merged, scores.logps) + ends).astype(np.float32), is_open)


def merged_into_next(aligned: AlignedRow, keep: NDArray[np.bool_]) -> AlignedRow:
    """Every chunk that is not kept goes into the next one of its content.

    What is after the last kept chunk of a content is dropped, as is what is before a token that
    is in no chunk: a chunk's tokens follow each other.
    """
    kept, index = np.flatnonzero(keep), np.arange(len(keep))
    is_apart = np.ones(len(keep), np.bool_)  # from the chunk before
    is_apart[1:] = (aligned.teacher_first[1:] != aligned.teacher_last[:-1] + 1) | (
        aligned.student_first[1:] != aligned.student_last[:-1] + 1
    )
    content_starts = np.maximum.accumulate(np.where(is_apart, index, 0))
    behind_kept = np.concatenate([np.zeros(1, np.int64), kept + 1])[: len(kept)]
    first = np.maximum(content_starts[kept], behind_kept)
    return replace(
        aligned,
        teacher_first=aligned.teacher_first[first],
        teacher_last=aligned.teacher_last[kept],
        student_first=aligned.student_first[first],
        student_last=aligned.student_last[kept],
        is_end=aligned.is_end[kept],
    )


def _sums(aligned: AlignedRow, logps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each chunk's tokens; NaN where one of them is NaN, and not where others are."""
    is_nan = np.isnan(logps)
    found = _over_chunks(aligned, np.where(is_nan, 0.0, logps))
    return np.where(_over_chunks(aligned, is_nan) > 0, np.nan, found)


def _over_chunks(aligned: AlignedRow, values: NDArray[Any]) -> NDArray[np.float64]:
    until = np.concatenate([np.zeros(1), np.cumsum(values)])
    total: NDArray[np.float64] = until[aligned.teacher_last + 1] - until[aligned.teacher_first]
    return total
