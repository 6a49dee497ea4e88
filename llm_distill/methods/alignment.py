"""Chunks of two tokenizations of the same text (ALM, arXiv 2503.20083, section 3).

A chunk ends wherever both streams end a token at the same byte: it is the shortest piece of text
that is made of whole tokens on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 20  # bytes of text at a time: the marks on them stay in the processor's cache


@dataclass(frozen=True)
class Chunks:
    """last_a, last_b: [C], the index of each chunk's last token in either stream, ascending."""

    last_a: NDArray[np.int64]
    last_b: NDArray[np.int64]


def align(ends_a: NDArray[np.int64], ends_b: NDArray[np.int64]) -> Chunks:
    """The chunks of two streams, from the byte offsets at which their tokens end.

    Offsets ascend; equal ones are tokens without text, and belong to the chunk of the token before
    them (at the very start: to a chunk of their own, if both sides have one). Many documents can be
    aligned at once by offsets that continue from one to the next. Leave one byte between two
    documents, or a token without text at the start of one counts as the end of the one before.
    What follows the last common offset is in no chunk.
    """
    found_a: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    found_b: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    if len(ends_a) and len(ends_b):
        first = int(max(ends_a[0], ends_b[0]))
        stop = int(min(ends_a[-1], ends_b[-1])) + 1
        borders = np.append(np.arange(first, stop, BLOCK), max(first, stop))
        cuts_a, cuts_b = np.searchsorted(ends_a, borders), np.searchsorted(ends_b, borders)
        marks = np.zeros(max(0, min(BLOCK, stop - first)), np.bool_)
        for i, start in enumerate(borders[:-1]):
            a = ends_a[cuts_a[i] : cuts_a[i + 1]] - start
            b = ends_b[cuts_b[i] : cuts_b[i + 1]] - start
            found_a.append(_also_in(b, a, marks) + cuts_a[i])
            found_b.append(_also_in(a, b, marks) + cuts_b[i])
    return Chunks(np.concatenate(found_a), np.concatenate(found_b))


def _also_in(
    others: NDArray[np.int64], ends: NDArray[np.int64], marks: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Indices of the offsets in `ends` that `others` has too: of equal ones the last.

    One pass over marked bytes is faster than a merge or a sort.

    Args:
        others: [A], of the other stream.
        ends: [B].
        marks: [bytes], scratch.
    """
    marks[:] = False
    marks[others] = True
    found = marks[ends]
    found[:-1] &= ends[1:] != ends[:-1]
    return np.flatnonzero(found)


def merge(chunks: Chunks, keep: NDArray[np.bool_]) -> Chunks:
    """Each chunk that is not kept is merged into the next one; after the last kept, it is dropped.

    Args:
        chunks: C of them.
        keep: [C]. The paper's γ-merging keeps the chunks at whose end the teacher gives p(B) ≥ γ.
    """
    return Chunks(chunks.last_a[keep], chunks.last_b[keep])
