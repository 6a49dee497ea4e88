from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_distill.methods.loss_weights import grad_mag_weights

NORMS = st.floats(1e-6, 1e6)


def test_weights_are_the_inverse_norms_that_add_up_to_one() -> None:
    assert grad_mag_weights([1.0, 3.0]) == pytest.approx([0.75, 0.25])
    assert grad_mag_weights([7.0]) == [1.0]


@given(st.lists(NORMS, min_size=1, max_size=5), NORMS)
def test_weighted_gradients_are_alike_whatever_the_scale(norms: list[float], scale: float) -> None:
    weights = grad_mag_weights(norms)
    assert sum(weights) == pytest.approx(1)
    pulls = [weight * norm for weight, norm in zip(weights, norms, strict=True)]
    assert pulls == pytest.approx([pulls[0]] * len(pulls))
    assert grad_mag_weights([scale * norm for norm in norms]) == pytest.approx(weights)


@pytest.mark.parametrize(
    ("norms", "expected"),
    [
        ([0.0, 2.0, 2.0], [0.0, 0.5, 0.5]),
        ([0.0, 0.0], [0.0, 0.0]),
        ([math.inf, 2.0], [0.0, 1.0]),
        ([math.inf, math.inf], [0.0, 0.0]),
        ([5e-324, 1e300], [1.0, 0.0]),
        ([], []),
    ],
)
def test_losses_that_have_nothing_to_say_get_no_weight(
    norms: list[float], expected: list[float]
) -> None:
    assert grad_mag_weights(norms) == expected


@pytest.mark.parametrize("norm", [-1.0, math.nan])
def test_what_is_no_norm_is_refused(norm: float) -> None:
    with pytest.raises(ValueError, match="negative or NaN"):
        grad_mag_weights([1.0, norm])
