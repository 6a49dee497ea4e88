"""Sums, means and merges over spans, against loops; sorted distances of unequal vocabularies."""

from __future__ import annotations

import math

import pytest
import torch

from llm_distill.methods.span_distributions import Side, merged, sorted_l1

SIZES = [2, 1, 3]
TARGETS = [1, 0, 2, 2, 1, 0]


@pytest.fixture
def side():
    torch.manual_seed(0)
    logits = torch.randn(6, 3, dtype=torch.float64)
    return Side(logits, torch.tensor(TARGETS), torch.tensor(SIZES))


def test_places_sums_and_means(side):
    values = torch.arange(6.0)
    assert (side.first.tolist(), side.last.tolist()) == ([0, 2, 3], [1, 2, 5])
    assert side.sums(values).tolist() == [1, 2, 12]
    assert side.means(values[:, None]).tolist() == [[0.5], [2], [4]]
    assert side.chosen(side.logits).tolist() == [
        row[token] for row, token in zip(side.logits.tolist(), TARGETS, strict=True)
    ]


def test_a_merged_distribution_has_the_mass_of_the_tokens_before(side):
    found = merged(side).tolist()
    p, start = side.logits.softmax(-1).tolist(), 0
    for size, row in zip(SIZES, found, strict=True):
        before = math.prod(p[place][TARGETS[place]] for place in range(start, start + size - 1))
        start += size
        assert row == pytest.approx([before * value for value in p[start - 1]])
        assert sum(row) == pytest.approx(before)


def test_a_token_that_cannot_be_multiplies_by_little_and_not_by_nothing():
    logits = torch.tensor([[0.0, -math.inf], [0.0, 0.0]])
    side = Side(logits, torch.tensor([1, 0]), torch.tensor([2]))
    assert merged(side).tolist() == [[pytest.approx(5e-9)] * 2]


def test_sorted_distance_does_not_ask_which_token():
    p = torch.tensor([[0.1, 0.2, 0.7], [0.0, 0.5, 0.5]])
    q = torch.tensor([[0.7, 0.3], [1.0, 0.0]])
    assert sorted_l1(p, q).item() == pytest.approx((0.1 + 0.1) + (0.5 + 0.5))
    assert sorted_l1(q, p).item() == sorted_l1(p, q).item()
    assert sorted_l1(p, p[:, [2, 0, 1]]).item() == 0
