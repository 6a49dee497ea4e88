"""The formulas, against sums written out and the T × T matrix."""

from __future__ import annotations

import math

import pytest
import torch

from llm_distill.methods.student_fit import ifd, mean_cosine, mean_nll, rsr, scas


def test_mean_nll() -> None:
    assert mean_nll([-1.0, -2.0, -6.0]) == 3.0


def test_ifd_is_1_where_the_question_changes_nothing_and_above_where_it_misleads() -> None:
    assert ifd(2.0, 2.0) == 1.0
    assert ifd(1.0, 4.0) == 0.25
    assert ifd(4.0, 1.0) == 4.0
    assert ifd(0.5, 0.0) is None


def test_rsr_of_halving_probabilities_is_the_same_for_every_text() -> None:
    """p(rank k) = 2^-k: Σ k / Σ k ln 2."""
    for ranks in ([1], [3, 1, 2], [5, 5, 17, 1]):
        logps = [-rank * math.log(2) for rank in ranks]
        found = rsr(sum(ranks) / len(ranks), mean_nll(logps))
        assert found == pytest.approx(1 / math.log(2))


def test_rsr_is_a_ratio_of_sums_and_not_a_mean_of_ratios() -> None:
    assert rsr((1 + 5) / 2, (0.5 + 1.0) / 2) == pytest.approx((1 + 5) / (0.5 + 1.0))
    assert rsr(1.0, 0.0) is None


def test_mean_cosine_is_the_mean_of_the_matrix() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(n, 6, generator=generator) * n for n in (5, 9))
    for first, second in ((a, a), (a, b), (b, b), (a[:1], b)):
        matrix = torch.nn.functional.cosine_similarity(first[:, None], second[None], dim=2)
        assert mean_cosine(first, second) == pytest.approx(matrix.mean().item(), abs=1e-6)
    assert mean_cosine(a[:1], a[:1]) == pytest.approx(1)


def test_scas() -> None:
    assert scas(2.0, 3.0, 0.5, 0.25, 0.0) == 4 * 0.5
    assert scas(2.0, 3.0, 0.5, 0.25, 1.0) == 2 * 3 * 0.25
    assert scas(2.0, 3.0, 0.5, 0.25, 0.5) == (2 + 1.5) / 2
