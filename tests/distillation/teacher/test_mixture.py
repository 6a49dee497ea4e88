"""A mixture of teachers against the mean of their distributions, token by token."""

from __future__ import annotations

import numpy as np
import pytest

from llm_distill.distillation.teacher.mixture import Mixture, mixed_by, shares_of


def test_a_mixture_is_the_mean_of_distributions() -> None:
    """Of three over 5 tokens at 4 places, one of which is a boundary."""
    draw = np.random.default_rng(0)
    shares = list(shares_of({"a": 3.0, "b": 1.0, "c": 4.0}).values())
    assert shares == [0.375, 0.125, 0.5]
    distributions = draw.dirichlet(np.ones(5), (3, 4))
    tokens, boundary = np.array([0, 3, 3, 1]), np.array([True, False, True, False, False])
    mixture = Mixture(shares)
    for number, own in enumerate(distributions):
        scores = {
            "teacher_logps": np.log(own[np.arange(4), tokens]).astype(np.float32),
            "teacher_log_pbs": np.log(own[:, boundary].sum(1)).astype(np.float32),
        }
        found = mixture.add(number, "row", "text", scores)
    assert found is not None
    mean = np.einsum("k,kpt->pt", shares, distributions)
    np.testing.assert_allclose(np.exp(found["teacher_logps"]), mean[np.arange(4), tokens], 1e-5)
    np.testing.assert_allclose(np.exp(found["teacher_log_pbs"]), mean[:, boundary].sum(1), 1e-5)
    assert (mixture.n_mixed, mixture.n_left) == (1, 0)


def test_a_token_that_one_holds_impossible_is_what_the_others_say() -> None:
    mixture = Mixture([0.5, 0.5])
    mixture.add(0, "r", "t", {"teacher_logps": np.array([-np.inf, 0.0], np.float32)})
    found = mixture.add(1, "r", "t", {"teacher_logps": np.array([0.0, 0.0], np.float32)})
    assert found is not None
    assert found["teacher_logps"].tolist() == pytest.approx([np.log(0.5), 0.0])


def test_rows_that_not_all_have_scored_as_the_same_tokens_are_counted() -> None:
    mixture, scores = Mixture([0.5, 0.5]), {"teacher_logps": np.zeros(1, np.float32)}
    for name in ("both", "first", "other text"):
        assert mixture.add(0, name, "text", scores) is None
    assert mixture.add(1, "both", "text", scores) is not None
    assert mixture.add(1, "other text", "of another", scores) is None
    assert mixture.add(1, "second", "text", scores) is None
    assert (mixture.n_mixed, mixture.n_left) == (1, 3)


def test_the_mark_says_who_and_how_much() -> None:
    weights = shares_of({"a": 7, "b": 3})
    assert mixed_by([("x 12", weights["a"]), ("y 34", weights["b"])]) == "0.7 × x 12 + 0.3 × y 34"
