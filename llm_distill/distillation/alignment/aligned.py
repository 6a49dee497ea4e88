"""Which tokens of a teacher and of a student are the same text.

Chunks as in "Cross-Tokenizer Distillation via Approximate Likelihood Matching" (arXiv 2503.20083),
within each content: a chunk closes wherever both sides end a token at the same byte.

teacher [Ann, ␣is, ␣2, 1, .] [<end>]     chunks: Ann | ␣is | ␣21 | . | <end>
student [␣Ann, ␣is, ␣21, .]  [<end>]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llm_distill.distillation.alignment.encoding import Content, EncodedRow, in_loss
from llm_distill.methods.alignment import align, merge
from llm_distill.rows.unusable import UnusableRowError

DIFFERENT = "texts differ after normalisation"
"""The reason under which a row is counted whose texts are not the same."""


@dataclass(frozen=True)
class AlignedRow:
    """Chunks of a row; each is tokens first..last, both included, of either side's `ids`.

    teacher_first, teacher_last, student_first, student_last: int64 [C], ascending.
    is_end: bool [C], the chunk is a pair of end tokens.
    n_bytes: of the contents. n_bytes_kept: of those that lie in a chunk.
    """

    teacher_first: NDArray[np.int64]
    teacher_last: NDArray[np.int64]
    student_first: NDArray[np.int64]
    student_last: NDArray[np.int64]
    is_end: NDArray[np.bool_]
    n_bytes: int
    n_bytes_kept: int


def aligned(teacher: EncodedRow, student: EncodedRow) -> AlignedRow:
    """Align content with content; both rows are encoded from the same turns.

    A chunk is there only if all its tokens, on both sides, are in the loss and are predicted.

    Raises:
        UnusableRowError: a tokenizer's normaliser, or a template, gives the sides unequal texts.
    """
    pairs = list(zip(teacher.contents, student.contents, strict=True))
    if any(a.text != b.text for a, b in pairs):
        raise UnusableRowError(DIFFERENT)
    parts, is_end, kept = [np.zeros((4, 0), np.int64)], [], 0
    for a, b in pairs:
        chunks, n_bytes = _chunks(a, b)
        parts.append(chunks)
        kept += n_bytes
        closed = [[a.end], [a.end], [b.end], [b.end]] if a.is_closed and b.is_closed else []
        if closed:
            parts.append(np.array(closed, dtype=np.int64))
        is_end += [False] * chunks.shape[1] + [True] * bool(closed)
    tokens = np.concatenate(parts, axis=1)
    return AlignedRow(
        *(tokens[0], tokens[1], tokens[2], tokens[3]),
        is_end=np.array(is_end, dtype=np.bool_),
        n_bytes=sum(len(a.text) for a, _ in pairs),
        n_bytes_kept=kept,
    )


def token_by_token(teacher: EncodedRow, student: EncodedRow) -> AlignedRow | None:
    """A chunk for each token in the loss; None where teacher and student have other tokens.

    Both are of one vocabulary. `aligned` would join tokens of white space with those beside them.
    """
    first, second = in_loss(teacher), in_loss(student)
    if not np.array_equal(teacher.ids[first], student.ids[second]):
        return None
    ends = [content.end for content in student.contents if content.is_closed]
    n_bytes = sum(len(content.text) for content in student.contents)
    is_end = np.isin(second, ends)
    return AlignedRow(first, first, second, second, is_end, n_bytes, n_bytes)


def _chunks(a: Content, b: Content) -> tuple[NDArray[np.int64], int]:
    """First and last tokens in `a`, then in `b`: int64 [4, C]; and the bytes in these chunks."""
    # A token before the content that has its first bytes takes part in the alignment, so that
    # what it shares a chunk with is left out and nothing more.
    missing_a, missing_b = int(a.begin > 0), int(b.begin > 0)
    ends_a, ends_b = (
        np.concatenate([[content.begin], content.ends]) if content.begin else content.ends
        for content in (a, b)
    )
    found = align(ends_a, ends_b)
    # White space alone, before the text on both sides, is not a chunk: it goes with the first one.
    found = merge(found, ends_a[found.last_a] > 0)
    first_a, first_b = (_firsts(last) for last in (found.last_a, found.last_b))
    keep = (first_a >= missing_a) & (first_b >= missing_b)
    ends = ends_a[found.last_a]
    n_bytes = np.diff(ends, prepend=0)[keep].sum()
    to_a, to_b = a.start - missing_a, b.start - missing_b
    tokens = [first_a + to_a, found.last_a + to_a, first_b + to_b, found.last_b + to_b]
    return np.stack(tokens)[:, keep], int(n_bytes)


def _firsts(last: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each chunk begins: right after the one before it."""
    return np.concatenate([np.zeros(1, np.int64), last + 1])[:-1]
