"""The tokens that a student shares with a teacher, of both tokenizers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from llm_distill.distillation.alignment.segments import is_byte_token, segments
from llm_distill.methods.embedding_transfer import Pieces, pieces_of, tokens_by_bytes
from llm_distill.methods.shared_tokens import Pairs, SharedTokens, pairs_of, projection

if TYPE_CHECKING:
    from llm_distill.distillation.alignment.encoding import RowEncoder


def shared_tokens(
    student: RowEncoder, teacher: RowEncoder, sizes: tuple[int, int], *, projected: bool
) -> SharedTokens:
    """Tokens of the same bytes, special tokens of the same name, and what ends a turn on each side.

    sizes: how many tokens each model has an output for, student and teacher. projected: with what
        stands for the student's other tokens.
    """
    n_student, n_teacher = (
        min(size, len(encoder.table.lengths))
        for size, encoder in zip(sizes, (student, teacher), strict=True)
    )
    ours, theirs = _by_bytes(student, n_student), _by_bytes(teacher, n_teacher)
    same = _special(student, teacher, n_student, n_teacher)
    pairs = pairs_of(ours, theirs, same)
    found = Pairs(
        torch.tensor(list(pairs), dtype=torch.int64),
        torch.tensor(list(pairs.values()), dtype=torch.int64),
        n_student,
        n_teacher,
    )
    if not projected:
        return SharedTokens(found)
    back = {to: token for token, to in pairs.items()}
    edges = projection(
        pairs,
        _pieces(student, n_student, teacher, theirs, pairs),
        _pieces(teacher, n_teacher, student, ours, back),
    )
    return SharedTokens(found, edges)


def _by_bytes(encoder: RowEncoder, size: int) -> dict[bytes, int]:
    found = tokens_by_bytes(encoder.table, is_byte_token(encoder.tokenizer, encoder.table))
    return {content: token for content, token in found.items() if token < size}


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


def _pieces(
    of: RowEncoder,
    size: int,
    by: RowEncoder,
    known: Mapping[bytes, int],
    partner: Mapping[int, int],
) -> Pieces:
    """Each of a tokenizer's tokens in tokens of the other."""
    table = of.table
    wanted: list[bytes | int | None] = [
        partner.get(token) if table.is_special[token] else table.text([token])
        for token in range(size)
    ]
    return pieces_of(wanted, known, partial(segments, by.tokenizer, by.table))
