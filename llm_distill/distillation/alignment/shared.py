"""The tokens that a student shares with a teacher, of both tokenizers."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from llm_distill.distillation.alignment.segments import is_byte_token, segments
from llm_distill.methods.embedding_transfer import Pieces, pieces_of, tokens_by_bytes
from llm_distill.methods.shared_tokens import Pairs, SharedTokens, pairs_of, projection

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from llm_distill.distillation.alignment.aligned import AlignedRow
    from llm_distill.distillation.alignment.encoding import EncodedRow, RowEncoder


class Kind(IntEnum):
    """How the tokens of a span are the same text on both sides.

    Where a text begins, plain text has a space before it and a chat has none: student "␣Ann",
    teacher "Ann". There the student's "␣Bob" is the teacher's "Bob". APART: other white space.
    """

    APART = -1
    EQUAL = 0
    STUDENT_SPACE = 1
    TEACHER_SPACE = 2


SPACES = {
    Kind.EQUAL: (b"", b""),
    Kind.STUDENT_SPACE: (b" ", b""),
    Kind.TEACHER_SPACE: (b"", b" "),
}
"""What a token of either side begins with, before what both have."""


def kinds(
    found: AlignedRow, student: EncodedRow, teacher: EncodedRow, encoders: tuple[RowEncoder, ...]
) -> NDArray[np.int64]:
    """int64 [C]: the `Kind` of each chunk of a row. encoders: student's, teacher's."""
    of_chunk = np.full(len(found.is_end), Kind.EQUAL, np.int64)
    for ours, theirs in zip(student.contents, teacher.contents, strict=True):
        at = np.searchsorted(found.student_first, ours.start)
        if at == len(of_chunk) or found.is_end[at]:
            continue
        if found.student_first[at] != ours.start or found.teacher_first[at] != theirs.start:
            continue
        last = found.student_last[at], found.teacher_last[at]
        texts = [
            encoder.table.text(row.ids[content.start : end + 1])
            for encoder, row, content, end in zip(
                encoders, (student, teacher), (ours, theirs), last, strict=True
            )
        ]
        spaces = [text[: len(text) - len(text.lstrip())] for text in texts]
        is_kind = [kind for kind, pair in SPACES.items() if _differ(spaces, pair)]
        of_chunk[at] = is_kind[0] if is_kind else Kind.APART
    return of_chunk


def _differ(spaces: list[bytes], pair: tuple[bytes, bytes]) -> bool:
    return spaces[0] == spaces[1] if pair == (b"", b"") else tuple(spaces) == pair


def shared_tokens(
    student: RowEncoder,
    teacher: RowEncoder,
    sizes: tuple[int, int],
    kind: int = Kind.EQUAL,
    *,
    projected: bool,
) -> SharedTokens:
    """Tokens of the same bytes, special tokens of the same name, and what ends a turn on each side.

    sizes: how many tokens each model has an output for, student and teacher. kind: of the spans.
    projected: with what stands for the student's other tokens.
    """
    n_student, n_teacher = (
        min(size, len(encoder.table.lengths))
        for size, encoder in zip(sizes, (student, teacher), strict=True)
    )
    space, other_space = SPACES[Kind(kind)]
    ours, theirs = _by_bytes(student, n_student), _by_bytes(teacher, n_teacher)
    pairs = pairs_of(
        _after(space, ours),
        _after(other_space, theirs),
        _special(student, teacher, n_student, n_teacher),
    )
    found = Pairs(
        torch.tensor(list(pairs), dtype=torch.int64),
        torch.tensor(list(pairs.values()), dtype=torch.int64),
        n_student,
        n_teacher,
    )
    if not projected:
        return SharedTokens(found)
    back = {to: token for token, to in pairs.items()}

    def pieces(
        of: RowEncoder, size: int, by: RowEncoder, known: Mapping[bytes, int], *spaces: bytes
    ) -> Pieces:
        """Each of a tokenizer's tokens in tokens of the other."""
        table, partner = of.table, pairs if of is student else back
        wanted: list[bytes | int | None] = []
        for token in range(size):
            text = table.text([token])
            if table.is_special[token]:
                wanted.append(partner.get(token))
            elif text.startswith(spaces[0]) and len(text) > len(spaces[0]):
                wanted.append(spaces[1] + text[len(spaces[0]) :])
            else:
                wanted.append(None)
        return pieces_of(wanted, known, partial(segments, by.tokenizer, by.table))

    edges = projection(
        pairs,
        pieces(student, n_student, teacher, theirs, space, other_space),
        pieces(teacher, n_teacher, student, ours, other_space, space),
    )
    return SharedTokens(found, edges)


def _by_bytes(encoder: RowEncoder, size: int) -> dict[bytes, int]:
    found = tokens_by_bytes(encoder.table, is_byte_token(encoder.tokenizer, encoder.table))
    return {content: token for content, token in found.items() if token < size}


def _after(space: bytes, tokens: Mapping[bytes, int]) -> dict[bytes, int]:
    """Those that begin with it and go on, by how they go on."""
    n = len(space)
    return {
        text[n:]: token for text, token in tokens.items() if text.startswith(space) and text[n:]
    }


def _special(
    student: RowEncoder, teacher: RowEncoder, n_student: int, n_teacher: int
) -> dict[int, int]:
    """The ends of a turn, then special tokens of one name."""

    def named(encoder: RowEncoder, size: int, end: int) -> dict[bytes, int]:
        special = np.flatnonzero(encoder.table.is_special[:size]).tolist()
        return {encoder.table.text([token]): token for token in special if token != end}

    ends = _end(student), _end(teacher)
    ours, theirs = named(student, n_student, ends[0]), named(teacher, n_teacher, ends[1])
    fit = ends[0] < n_student and ends[1] < n_teacher
    return pairs_of(ours, theirs, {ends[0]: ends[1]} if fit else {})


def _end(encoder: RowEncoder) -> int:
    """What ends a turn; where there are several, as `PairEncoder` writes it."""
    own = encoder.tokenizer.eos_token_id
    return int(own) if own in encoder.pairs.ends else min(encoder.pairs.ends)
