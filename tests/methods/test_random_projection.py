"""Random signs: what they keep, and that they do not depend on how they are cut."""

from __future__ import annotations

import pytest
import torch

from llm_distill.methods.random_projection import project, signs


def cosines(vectors: torch.Tensor) -> torch.Tensor:
    units = vectors / vectors.norm(dim=1, keepdim=True)
    return units @ units.T


def vectors(n: int, length: int) -> torch.Tensor:
    """Some alike, some not: each is a sum of two of a few directions, and noise."""
    generator = torch.Generator().manual_seed(3)
    few = torch.randn(4, length, generator=generator)
    noise = torch.randn(n, length, generator=generator)
    return torch.stack([few[i % 4] - few[i % 3] for i in range(n)]) + noise


def test_cosines_stay_nearly_the_same() -> None:
    given = vectors(12, 20_000)
    errors = (cosines(project(given, 2048, 0)) - cosines(given)).abs()
    assert errors.max() < 5 / 2048**0.5
    assert errors.max() > 0.01  # it is a projection


def test_lengths_do_too() -> None:
    given = vectors(12, 20_000)
    ratios = project(given, 2048, 0).norm(dim=1) / given.norm(dim=1)
    assert (ratios - 1).abs().max() < 5 / 2048**0.5


@pytest.mark.parametrize("entries", [1, 1000, 77_777, 10**9])
def test_any_cut_gives_the_same(entries: int) -> None:
    given = vectors(3, 2000)
    whole = project(given, 300, 5)
    torch.testing.assert_close(project(given, 300, 5, entries=entries), whole)


def test_any_company_gives_the_same() -> None:
    given = vectors(5, 2000)
    alone = torch.cat([project(given[i : i + 1], 300, 5) for i in range(5)])
    torch.testing.assert_close(alone, project(given, 300, 5))


def test_the_signs_of_a_row_are_its_own() -> None:
    whole = signs(0, 50, 300, 1)
    assert whole.shape == (50, 300)
    assert set(whole.unique().tolist()) == {-1, 1}
    assert torch.equal(signs(17, 9, 300, 1), whole[17:26])
    assert abs(whole.double().mean().item()) < 4 / whole.numel() ** 0.5
    assert len({tuple(row) for row in whole.tolist()}) == 50
    assert not torch.equal(signs(0, 50, 300, 2), whole)


def test_short_vectors_stay_as_they_are() -> None:
    given = vectors(2, 300)
    assert torch.equal(project(given, 300, 0), given)
