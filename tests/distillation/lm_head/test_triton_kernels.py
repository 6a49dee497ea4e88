"""The Triton path of the output layer against the torch path.

On a GPU the kernels are compiled. Elsewhere Triton's interpreter runs them, line by line in NumPy,
if TRITON_INTERPRET=1 is set before anything imports Triton: `make test-triton` does all of it.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import pytest
import torch

from llm_distill.distillation.lm_head import head as module
from llm_distill.distillation.lm_head import tiles
from llm_distill.distillation.lm_head.head import Head, head_logps

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CAN_RUN = importlib.util.find_spec("triton") and (
    DEVICE == "cuda" or "TRITON_INTERPRET" in os.environ
)
pytestmark = [
    pytest.mark.triton,
    pytest.mark.skipif(not CAN_RUN, reason="needs Triton, and a GPU or TRITON_INTERPRET=1"),
]
N, H, V = 6, 5, 43


@pytest.fixture(autouse=True)
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """With programs of 8 tokens, and tiles of 4 positions by 13: neither divides the other."""
    from llm_distill.distillation.lm_head import triton_kernels

    monkeypatch.setattr(triton_kernels, "BLOCK", 8)
    monkeypatch.setattr(module, "MOST_ROWS", {DEVICE: 4})
    monkeypatch.setattr(module, "TILE_SIZE", {DEVICE: 52})


def case(dtype: torch.dtype, **shape: Any) -> tuple[Any, ...]:
    torch.manual_seed(0)
    made = [3 * torch.randn(N, H), torch.randn(V, H), torch.randn(V)]
    hidden, weight, bias = [t.to(DEVICE, dtype).requires_grad_() for t in made]
    targets = torch.tensor([0, V - 1, 7, 8, 13, V], device=DEVICE)  # the last is not there
    boundary_tokens = torch.zeros(V, dtype=torch.bool, device=DEVICE)
    boundary_tokens[[20, 22, 40]] = True  # there are tiles without any, the first among them
    return hidden, Head(weight, bias, **shape), targets, boundary_tokens


def both(monkeypatch: pytest.MonkeyPatch, *given: Any) -> list[list[torch.Tensor]]:
    """Values and gradients, in torch and in Triton."""
    from llm_distill.distillation.lm_head import triton_kernels

    found = []
    for way in (tiles, triton_kernels):
        operations = way.accumulate, way.backward
        monkeypatch.setattr(module, "tile_operations", lambda *_, way=operations: way)
        hidden, head, targets, boundary_tokens = given
        values = [
            value
            for value in head_logps(hidden, head, targets, boundary_tokens)
            if value is not None
        ]
        weights = torch.linspace(-1, 2, len(values) * N, device=DEVICE).split(N)
        loss = sum((v[:-1] * w[:-1]).sum() for v, w in zip(values, weights, strict=True))
        inputs = [hidden, head.weight, head.bias]
        found.append([*values, *torch.autograd.grad(loss, inputs)])  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("has_boundaries", [True, False])
@pytest.mark.parametrize(
    "shape", [{}, {"scale": 0.25}, {"soft_cap": 3.0}, {"scale": 2.0, "soft_cap": 3.0}]
)
def test_values_and_gradients_are_those_of_torch(
    shape: dict[str, float], has_boundaries: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden, head, targets, boundary_tokens = case(torch.float32, **shape)
    torchs, tritons = both(
        monkeypatch, hidden, head, targets, boundary_tokens if has_boundaries else None
    )
    assert len(torchs) == (5 if has_boundaries else 4)
    for one, other in zip(tritons, torchs, strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)


def test_bfloat16_is_summed_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    torchs, tritons = both(monkeypatch, *case(torch.bfloat16))
    assert tritons[0].dtype == torch.float32
    for one, other in zip(tritons[:2], torchs[:2], strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)
    for one, other in zip(tritons[2:], torchs[2:], strict=True):
        assert one.dtype == torch.bfloat16
        torch.testing.assert_close(one, other, atol=0.05, rtol=0.02)


def test_extreme_logits_stay_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, head, targets, boundary_tokens = case(torch.float32, soft_cap=30.0)
    targets[-1] = 0
    hidden = (1000 * hidden.detach()).requires_grad_()
    torchs, tritons = both(monkeypatch, hidden, head, targets, boundary_tokens)
    for one, other in zip(tritons, torchs, strict=True):
        assert one.isfinite().all()
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-4)
