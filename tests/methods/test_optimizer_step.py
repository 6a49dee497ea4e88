"""One step against torch's own optimizers, after steps of theirs."""

from __future__ import annotations

import pytest
import torch

from llm_distill.methods.optimizer_step import adamw_step, sgd_step


@pytest.mark.parametrize("n_steps", [0, 1, 7])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adamw_is_torchs(n_steps: int, decay: float) -> None:
    generator = torch.Generator().manual_seed(n_steps)
    weight = torch.randn(3, 5, dtype=torch.float64, generator=generator).requires_grad_()
    optimizer = torch.optim.AdamW([weight], lr=0.01, weight_decay=decay)
    for _ in range(n_steps):
        weight.grad = torch.randn(3, 5, dtype=torch.float64, generator=generator)
        optimizer.step()
    state = optimizer.state.get(weight, {})
    zeros = torch.zeros_like(weight)
    moments = [state.get(name, zeros).clone() for name in ("exp_avg", "exp_avg_sq")]
    before, gradient = weight.detach().clone(), torch.randn(3, 5, generator=generator).double()
    found = adamw_step(weight.detach(), gradient, *moments, n_steps, 0.01, decay)
    assert torch.equal(weight, before)
    weight.grad = gradient
    optimizer.step()
    torch.testing.assert_close(found, weight.detach(), rtol=1e-14, atol=0)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_sgd_is_torchs(decay: float) -> None:
    weight = torch.linspace(-1, 1, 6, dtype=torch.float64).requires_grad_()
    weight.grad = torch.linspace(2, 3, 6, dtype=torch.float64)
    found = sgd_step(weight.detach().clone(), weight.grad.clone(), 0.01, decay)
    torch.optim.SGD([weight], lr=0.01, weight_decay=decay).step()
    torch.testing.assert_close(found, weight.detach(), rtol=1e-14, atol=0)
