"""Pairs of tokens, and X-Token's projection, by hand and against loops."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
import torch

from llm_distill.methods.embedding_transfer import Pieces
from llm_distill.methods.shared_tokens import (
    Edges,
    Pairs,
    near_pairs,
    pairs_of,
    projected,
    projection,
)


def pieces(*of_tokens):
    starts = np.cumsum([0, *map(len, of_tokens)])
    return Pieces(np.array([i for ids in of_tokens for i in ids], np.int64), starts)


def as_matrix(edges):
    rows = zip(edges.student.tolist(), edges.teacher.tolist(), edges.weights.tolist(), strict=True)
    return {(student, teacher): weight for student, teacher, weight in rows}


def test_pairs_are_by_bytes_and_one_to_one():
    student = {b"a": 0, b"b": 1, b"c": 2}
    teacher = {b"c": 0, b"b": 3, b"x": 4}
    assert pairs_of(student, teacher, {}) == {1: 3, 2: 0}
    # 7 and 0 are known to be the same: 0 is then nobody else's.
    assert pairs_of(student, teacher, {7: 0}) == {7: 0, 1: 3}


def test_tokens_without_a_partner():
    pairs = Pairs(torch.tensor([2, 0]), torch.tensor([1, 4]), 4, 5)
    assert [tokens.tolist() for tokens in pairs.alone] == [[1, 3], [0, 2, 3]]
    held = pairs.holds(torch.tensor([2, 2, 1, 0]), torch.tensor([1, 4, 1, 4]))
    assert held.tolist() == [True, False, False, True]


def test_the_projection_by_hand():
    """Student's: 0 shared; 1 is the teacher's 1 2; 2 is a part of the teacher's 3; 3 is nothing."""
    found = as_matrix(
        projection({0: 0}, pieces([0], [1, 2], [], []), pieces([0], [], [], [0, 2], [])),
    )
    # The teacher's 3 is the student's 0 2: its first piece is shared and keeps to its partner.
    expected = {(0, 0): 1.0, (1, 1): 1 / 1.1, (1, 2): 0.1 / 1.1, (2, 3): 1.0}
    assert found == pytest.approx(expected)


def test_the_projection_is_that_of_loops():
    rng = np.random.default_rng(0)
    n_student, n_teacher, most = 12, 15, 3
    cut = [rng.integers(n_teacher, size=rng.integers(0, 6)).tolist() for _ in range(n_student)]
    back = [rng.integers(n_student, size=rng.integers(0, 6)).tolist() for _ in range(n_teacher)]
    pairs = {3: 7, 5: 2}
    counts = defaultdict(float)
    for parts, is_back in ((cut, False), (back, True)):
        for token, whole in enumerate(parts):
            ids = whole[:most]
            total = sum(0.1**i for i in range(len(ids)))
            for i, piece in enumerate(ids):
                edge = (piece, token) if is_back else (token, piece)
                counts[edge] += 0.1**i / total
    expected = {}
    for student in range(n_student):
        if student in pairs:
            row = [(1.0, pairs[student])]
        else:
            row = [(weight, to) for (token, to), weight in counts.items() if token == student]
        row = sorted(row, key=lambda pair: (-pair[0], pair[1]))[:most]
        for weight, to in row:
            expected[student, to] = weight / sum(weight for weight, _ in row)
    found = projection(pairs, pieces(*cut), pieces(*back), most)
    assert as_matrix(found) == pytest.approx(expected)
    values = torch.rand(4, n_student)
    dense = torch.zeros(n_student, n_teacher)
    for (student, teacher), weight in expected.items():
        dense[student, teacher] = weight
    torch.testing.assert_close(projected(found, values, n_teacher), values @ dense)


def test_near_tokens_are_one_to_one():
    """The heaviest goes before the first, and the first before others."""
    edges = Edges(
        torch.tensor([0, 0, 1, 2, 3, 4]),
        torch.tensor([5, 6, 5, 5, 2, 2]),
        torch.tensor([0.7, 0.3, 0.9, 0.9, 0.6, 0.5]),
    )
    pairs = near_pairs(edges, 5, 7)
    assert dict(zip(pairs.student.tolist(), pairs.teacher.tolist(), strict=True)) == {1: 5, 3: 2}
