"""Cosine top-k against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from llm_distill.methods import similarity
from llm_distill.methods.similarity import most_similar


def brute(queries, keys, k):
    def cosine(a, b):
        lengths = np.sqrt(sum(x * x for x in a)) * np.sqrt(sum(x * x for x in b))
        return sum(x * y for x, y in zip(a, b, strict=True)) / lengths

    ranked = [sorted(range(len(keys)), key=lambda i: (-cosine(q, keys[i]), i))[:k] for q in queries]
    return ranked, [
        [cosine(q, keys[i]) for i in row] for q, row in zip(queries, ranked, strict=True)
    ]


@pytest.mark.parametrize("at_once", [1, 4, 256])
def test_against_brute_force(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "AT_ONCE", at_once)
    generator = np.random.default_rng(1)
    queries, keys = generator.normal(size=(9, 5)), generator.normal(size=(30, 5)) * 7
    indices, cosines = most_similar(queries.astype(np.float32), keys, 4)
    wanted, values = brute(queries.astype(np.float32), keys, 4)
    assert indices.tolist() == wanted
    np.testing.assert_allclose(cosines, values, atol=1e-6)


def test_of_equal_ones_the_first_and_never_more_than_there_are() -> None:
    keys = np.array([[0.0, 1.0], [2.0, 0.0], [5.0, 0.0], [0.0, 0.0]])
    indices, cosines = most_similar(np.array([[1.0, 0.0]]), keys, 9)
    assert indices.tolist() == [[1, 2, 0, 3]]
    assert cosines.tolist() == [[1.0, 1.0, 0.0, 0.0]]
    assert most_similar(np.zeros((0, 2)), keys, 3)[0].shape == (0, 3)
