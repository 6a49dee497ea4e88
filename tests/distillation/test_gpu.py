"""On a GPU: the output layer's kernels at real sizes, and a training step beside the CPU's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llm_distill.distillation.alignment.encoding import row_encoder
from llm_distill.distillation.lm_head import head as module
from llm_distill.distillation.lm_head import tiles
from llm_distill.distillation.lm_head.head import Head, head_logps, top_tokens
from llm_distill.distillation.lm_head.tile_operations import tile_operations
from llm_distill.distillation.settings import DistillSettings
from llm_distill.distillation.teacher.scoring import TeacherScorer
from llm_distill.models.sources import ModelSource
from tests.distillation import tiny
from tests.distillation.trainers import trainer, weights

pytestmark = pytest.mark.gpu
N, H, V = 300, 64, 50_257  # none of them divides a tile or a program


def case(dtype: torch.dtype, soft_cap: float | None) -> tuple[torch.Tensor, Head, Any, Any]:
    torch.manual_seed(0)
    made = torch.randn(N, H), 2 * torch.randn(V, H) / H**0.5, torch.randn(V)
    hidden, weight, bias = [t.to("cuda", dtype).requires_grad_() for t in made]
    targets = torch.randint(V, (N,), device="cuda")
    boundary_tokens = torch.rand(V, device="cuda") < 0.3
    return hidden, Head(weight, bias, 1.0, soft_cap), targets, boundary_tokens


def found(
    hidden: torch.Tensor, head: Head, targets: Any, boundary_tokens: Any
) -> list[torch.Tensor]:
    """Log-probabilities, and gradients of hidden states, weights and bias."""
    values = [
        value for value in head_logps(hidden, head, targets, boundary_tokens) if value is not None
    ]
    loss = sum((v * torch.linspace(-1, 2, N, device="cuda")).sum() for v in values)
    inputs = [hidden, head.weight, head.bias]
    return [*values, *torch.autograd.grad(loss, inputs)]  # type: ignore[arg-type]


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    wanted = other.detach().double()
    return float((one.detach().double() - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("soft_cap", [None, 5.0])
@pytest.mark.parametrize("has_boundaries", [True, False])
@pytest.mark.parametrize(
    ("dtype", "allowed"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)], ids=["fp32", "bf16"]
)
def test_kernels_give_what_torch_gives_and_float64(
    dtype: torch.dtype,
    allowed: float,
    has_boundaries: bool,
    soft_cap: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hidden, head, targets, boundary_tokens = case(dtype, soft_cap)
    of_boundaries = boundary_tokens if has_boundaries else None
    assert tile_operations(hidden.device, dtype)[0] is not tiles.accumulate
    tritons = found(hidden, head, targets, of_boundaries)
    assert head.bias is not None
    wide = [t.detach().double().requires_grad_() for t in (hidden, head.weight, head.bias)]
    wanted = found(wide[0], Head(wide[1], wide[2], 1.0, soft_cap), targets, of_boundaries)
    in_torch = tiles.accumulate, tiles.backward
    monkeypatch.setattr(module, "tile_operations", lambda *_: in_torch)
    torchs = found(hidden, head, targets, of_boundaries)
    for one, other, right in zip(tritons, torchs, wanted, strict=True):
        assert one.dtype == other.dtype
        assert relative(one, other) < allowed
        assert relative(one, right) < allowed


def test_the_likeliest_tokens_are_those_of_the_cpu() -> None:
    hidden, head, *_ = case(torch.float32, None)
    assert head.bias is not None
    on_cpu = Head(head.weight.cpu(), head.bias.cpu())
    one, other = top_tokens(hidden, head, 8, V - 57), top_tokens(hidden.cpu(), on_cpu, 8, V - 57)
    torch.testing.assert_close(one.logps.cpu(), other.logps, atol=1e-4, rtol=1e-4)
    assert (one.ids.cpu() == other.ids).float().mean() > 0.99


def test_scores_are_those_of_the_cpu(teacher: ModelSource) -> None:
    encoder = row_encoder(teacher, None)
    rows = [encoder.encode(_turns(row)) for row in tiny.ROWS]
    names = [row["id"] for row in tiny.ROWS]
    gpu, cpu = (
        TeacherScorer(teacher, encoder, batch_tokens=512, top_k=4, device=device).score(rows, names)
        for device in ("cuda", "cpu")
    )
    for one, other in zip(gpu, cpu, strict=True):
        for column in ("teacher_logps", "teacher_log_pbs", "teacher_top_logps"):
            np.testing.assert_allclose(one[column], other[column], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("combine", ["fixed", "grad_mag"])
def test_a_training_step_is_that_of_the_cpu(
    combine: Any, student: ModelSource, teacher: ModelSource, tmp_path: Path
) -> None:
    settings = DistillSettings(combine=combine)
    changes, points = [], []
    for use_cpu in (True, False):
        built = trainer(student, teacher, settings, tmp_path / str(use_cpu), use_cpu=use_cpu)
        before = weights(built)
        assert built.model.device.type == ("cpu" if use_cpu else "cuda")
        built.train()
        changes.append({k: (v - before[k]).cpu() for k, v in weights(built).items()})
        points.append(next(point for point in built.state.log_history if "loss" in point))
    for name in ("loss", "alm", "sft", "grad_norm"):
        assert points[1][name] == pytest.approx(points[0][name], rel=1e-4)
    for name, change in changes[0].items():
        assert change.norm() > 0
        assert relative(changes[1][name], change) < 1e-3, name


def test_a_step_in_bfloat16_is_nearly_that_in_float32(
    student: ModelSource, teacher: ModelSource, tmp_path: Path
) -> None:
    points = []
    for bf16 in (False, True):
        run = tmp_path / str(bf16)
        built = trainer(student, teacher, DistillSettings(), run, use_cpu=False, bf16=bf16)
        built.train()
        points.append(next(point for point in built.state.log_history if "loss" in point))
    for name in ("loss", "alm", "sft", "grad_norm"):
        assert points[1][name] == pytest.approx(points[0][name], rel=0.05)
        assert points[1][name] != points[0][name]


def _turns(row: dict[str, str]) -> Sequence[dict[str, str]]:
    return [
        {"role": "user", "content": row["prompt"]},
        {"role": "assistant", "content": row["completion"]},
    ]
