"""Which tokens of two vocabularies stand for the same text, and what stands for the others.

student "the" " 21" "!"     teacher "the" " 2" "1"
shared: "the" = "the"       projection: " 21" → 0.91 " 2" + 0.09 "1"

The projection is X-Token's (arXiv 2605.21699): a token of one side is cut by the other side's
tokenizer, each piece weighs a tenth of the one before it, and shared tokens go to their partner
alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from llm_distill.methods.embedding_transfer import Pieces

MOST_EDGES = 4
"""Teacher's tokens that a student's token goes to, and pieces that a token is cut into."""
DECAY = 0.1
NEAR = 0.6
"""From this weight on, two tokens count as the same in X-Token's H-KL."""


@dataclass(frozen=True)
class Edges:
    """A sparse matrix from student's to teacher's tokens: int64 [E], int64 [E], weights [E].

    The weights of a student's token sum to 1. A token that nothing stands for has none.
    """

    student: torch.Tensor
    teacher: torch.Tensor
    weights: torch.Tensor


@dataclass(frozen=True)
class Pairs:
    """Tokens that have a partner: student, teacher: int64 [M] each; none is in two pairs.

    n_student, n_teacher: how many tokens there are.
    """

    student: torch.Tensor
    teacher: torch.Tensor
    n_student: int
    n_teacher: int

    @cached_property
    def alone(self) -> tuple[torch.Tensor, torch.Tensor]:
        """int64 [n_student − M], [n_teacher − M]: the tokens without a partner, ascending."""
        return (
            _others(self.student, self.n_student),
            _others(self.teacher, self.n_teacher),
        )

    @cached_property
    def _partner(self) -> torch.Tensor:
        partner = torch.full((self.n_student,), -1, device=self.student.device)
        partner[self.student] = self.teacher
        return partner

    def holds(self, students: torch.Tensor, teachers: torch.Tensor) -> torch.Tensor:
        """Bool [S]: whether these tokens, int64 [S] each, are partners."""
        return self._partner[students] == teachers

    def to(self, device: torch.device) -> Pairs:
        return replace(self, student=self.student.to(device), teacher=self.teacher.to(device))


@dataclass(frozen=True)
class SharedTokens:
    """same: tokens of the same text. edges: the projection, where a loss asks for it."""

    same: Pairs
    edges: Edges | None = None

    @cached_property
    def near(self) -> Pairs:
        """Tokens that go to one partner with most of their weight."""
        assert self.edges is not None
        return near_pairs(self.edges, self.same.n_student, self.same.n_teacher)

    def to(self, device: torch.device) -> SharedTokens:
        edges = self.edges
        if edges is not None:
            parts = (edges.student, edges.teacher, edges.weights)
            edges = Edges(*(part.to(device) for part in parts))
        return SharedTokens(self.same.to(device), edges)


def pairs_of(
    student: Mapping[bytes, int], teacher: Mapping[bytes, int], same: Mapping[int, int]
) -> dict[int, int]:
    """From student's to teacher's tokens of the same bytes.

    same: pairs that are known otherwise, such as the tokens that end a turn; they come first.
    """
    taken = set(same.values())
    found = dict(same)
    for content, token in student.items():
        partner = teacher.get(content)
        if partner is not None and token not in found and partner not in taken:
            found[token] = partner
    return found


def projection(
    pairs: Mapping[int, int], of_student: Pieces, of_teacher: Pieces, most: int = MOST_EDGES
) -> Edges:
    """The weights with which student's tokens stand for teacher's.

    of_student: the teacher's tokens that each of the student's is cut into; of_teacher: the other
    way around.
    """
    n_teacher = len(of_teacher.lengths)
    rows, columns, weights = (
        np.concatenate(both)
        for both in zip(_cut(of_student, most), _turned(_cut(of_teacher, most)), strict=True)
    )
    exact = np.array(list(pairs), np.int64)
    keep = ~np.isin(rows, exact)
    keys, place = np.unique(rows[keep] * n_teacher + columns[keep], return_inverse=True)
    total = np.bincount(place, weights[keep], len(keys))
    rows = np.concatenate([keys // n_teacher, exact])
    columns = np.concatenate([keys % n_teacher, np.array(list(pairs.values()), np.int64)])
    weights = np.concatenate([total, np.ones(len(exact))])
    # The heaviest of each row, and of equal ones the first token.
    order = np.lexsort((columns, -weights, rows))
    rows, columns, weights = rows[order], columns[order], weights[order]
    starts = np.searchsorted(rows, rows)
    heaviest = np.arange(len(rows)) - starts < most
    rows, columns, weights = rows[heaviest], columns[heaviest], weights[heaviest]
    weights = weights / np.bincount(rows, weights)[rows]
    return Edges(
        torch.from_numpy(rows), torch.from_numpy(columns), torch.from_numpy(weights).float()
    )


def near_pairs(edges: Edges, n_student: int, n_teacher: int) -> Pairs:
    """Tokens that go to one of the teacher's with `NEAR` of their weight.

    Where several go to one, the heaviest has it, and of equal ones the first.
    """
    is_near = edges.weights >= NEAR
    rows, columns, weights = (
        part[is_near].cpu().numpy() for part in (edges.student, edges.teacher, edges.weights)
    )
    order = np.lexsort((rows, -weights, columns))
    rows, columns = rows[order], columns[order]
    is_first = np.ones(len(columns), np.bool_)
    is_first[1:] = columns[1:] != columns[:-1]
    student, teacher = (torch.from_numpy(each[is_first]) for each in (rows, columns))
    return Pairs(student, teacher, n_student, n_teacher).to(edges.student.device)


def projected(edges: Edges, values: torch.Tensor, n_teacher: int) -> torch.Tensor:
    """[S, n_teacher]: student's probabilities [S, V], given to the teacher's tokens."""
    parts = values[:, edges.student] * edges.weights.to(values.dtype)
    return values.new_zeros(len(values), n_teacher).index_add(1, edges.teacher, parts)


def _others(tokens: torch.Tensor, size: int) -> torch.Tensor:
    is_other = torch.ones(size, dtype=torch.bool, device=tokens.device)
    is_other[tokens] = False
    return is_other.nonzero().squeeze(1)


def _cut(
    pieces: Pieces, most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """(token, piece, weight) of the first pieces of each token; a token's weights sum to 1."""
    lengths = pieces.lengths
    tokens = np.repeat(np.arange(len(lengths)), lengths)
    index = np.arange(len(pieces.ids)) - np.repeat(pieces.starts[:-1], lengths)
    keep = index < most
    tokens, weights = tokens[keep], DECAY ** index[keep].astype(np.float64)
    sums = np.bincount(tokens, weights, len(lengths))
    return tokens, pieces.ids[keep], weights / sums[tokens]


def _turned(
    parts: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    tokens, found, weights = parts
    return found, tokens, weights
