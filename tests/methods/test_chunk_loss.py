from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm_distill.methods.chunk_loss import EPSILON, chunk_divergence, chunk_sums

Kind = Literal["kl", "tvd"]
KINDS: tuple[Kind, ...] = ("kl", "tvd")
TEMPERATURES = (1.0, 5.0, 100.0, 1e6, math.inf)
NASTY = (0.0, 1e-7, -0.0, -1e-12, -EPSILON, -1e-3, -0.7, -20.0, -104.0, -5e3, -1e30, -math.inf)


def doubles(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def loss_and_slope(
    teacher: torch.Tensor, student: torch.Tensor, temperature: float, kind: Kind = "kl"
) -> tuple[torch.Tensor, torch.Tensor]:
    student = student.clone().requires_grad_()
    loss = chunk_divergence(teacher, student, temperature, kind)
    (slope,) = torch.autograd.grad(loss.sum(), student)
    return loss.detach(), slope


def written_out(teacher: float, student: float, temperature: float, kind: Kind) -> float:
    """The definition, outcome by outcome."""
    p, q = math.exp(teacher / temperature), math.exp(student / temperature)
    pairs = [(p, q), (1 - p, 1 - q)]
    if kind == "kl":
        return temperature * sum(x * math.log(x / y) for x, y in pairs)
    return temperature * sum(abs(x - y) / 2 for x, y in pairs)


@given(
    st.floats(-30, -1e-3),
    st.floats(-30, -1e-3),
    st.sampled_from([1.0, 2.0, 5.0, 100.0]),
    st.sampled_from(KINDS),
)
def test_the_divergence_is_the_definition(
    teacher: float, student: float, temperature: float, kind: Kind
) -> None:
    found = chunk_divergence(doubles([teacher]), doubles([student]), temperature, kind)
    assert found.item() == pytest.approx(
        written_out(teacher, student, temperature, kind), rel=1e-6, abs=1e-9
    )


@pytest.mark.parametrize("temperature", [1e6, math.inf])
def test_a_high_temperature_is_the_closed_form(temperature: float) -> None:
    a, b = doubles([0.01, 3.0, 3.0, 40.0]), doubles([2.0, 2.9, 3.0, 0.5])
    loss, slope = loss_and_slope(-a, -b, temperature)
    torch.testing.assert_close(loss, b - a + a * torch.log(a / b), rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(slope, a / b - 1, rtol=1e-4, atol=1e-9)
    loss, slope = loss_and_slope(-a, -b, temperature, "tvd")
    torch.testing.assert_close(loss, (a - b).abs(), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_float32_is_as_good_as_float64(temperature: float) -> None:
    values = torch.tensor([-1e-4, -0.01, -0.69, -0.7, -2.0, -9.0, -30.0])
    teacher, student = (x.flatten() for x in torch.meshgrid(values, values, indexing="ij"))
    single = loss_and_slope(teacher, student, temperature)
    double = loss_and_slope(teacher.double(), student.double(), temperature)
    for found, expected in zip(single, double, strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_gradients_are_right(temperature: float, kind: Kind) -> None:
    teacher = doubles([-0.3, -2.0, -0.001, -12.0])
    student = doubles([-0.4, -0.1, -3.0, -0.02]).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda given: chunk_divergence(teacher, given, temperature, kind), (student,)
    )
    assert student.grad is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_equal_sides_have_exactly_no_loss_and_no_gradient(
    dtype: torch.dtype, temperature: float, kind: Kind
) -> None:
    torch.manual_seed(0)
    same = torch.cat([-torch.exp(torch.randn(2000) * 4), torch.tensor(NASTY)]).to(dtype)
    loss, slope = loss_and_slope(same, same, temperature, kind)
    assert loss.eq(0).all()
    assert slope.eq(0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_likelihoods_of_zero_and_one_are_finite(temperature: float, kind: Kind) -> None:
    values = torch.tensor(NASTY)
    teacher, student = (x.flatten() for x in torch.meshgrid(values, values, indexing="ij"))
    loss, slope = loss_and_slope(teacher, student, temperature, kind)
    assert loss.isfinite().all()
    assert slope.isfinite().all()
    assert (loss >= 0).all()
    differ = teacher.clamp(-1e4, -EPSILON) != student.clamp(-1e4, -EPSILON)
    if temperature >= 1e6:  # a colder one leaves no float32 between two that are nearly impossible
        assert (loss[differ] > 0).all()


def test_a_certain_teacher_pulls_the_student_up_and_a_doubting_one_down() -> None:
    _, up = loss_and_slope(torch.tensor([0.0]), torch.tensor([-2.0]), 1.0)
    _, down = loss_and_slope(torch.tensor([-9.0]), torch.tensor([-0.01]), 1.0)
    assert up.item() == pytest.approx(-1, abs=1e-4)
    assert down.item() > 1


def over_confident(gap: float, dtype: torch.dtype) -> torch.Tensor:
    """Logits of a student that is sure of token 0, [2 tokens, 5]; they may have a large mean."""
    logits = torch.zeros(2, 5, dtype=dtype) + 30
    logits[:, 0] += gap
    return logits.requires_grad_()


@pytest.mark.parametrize("gap", [5.0, 8.0, 11.0, 12.5, 14.0, 16.0, 18.0, 25.0, 90.0])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_one_over_confident_chunk_does_not_dominate(temperature: float, gap: float) -> None:
    """At the logits its gradient is bounded by the teacher's doubt."""
    doubt = 20.0
    slopes = []
    for dtype in (torch.float32, torch.float64):
        logits = over_confident(gap, dtype)
        sums = chunk_sums(logits.log_softmax(-1)[:, 0], torch.zeros(2, dtype=torch.int64), 1)
        chunk_divergence(torch.tensor([-doubt]), sums, temperature).sum().backward()
        assert logits.grad is not None
        slopes.append(logits.grad.double())
    bound = min(doubt, temperature)
    assert all(slope.abs().max() <= bound * 1.01 for slope in slopes)
    # Below EPSILON there is none at all; above, float32 and float64 agree.
    if gap < 12:
        torch.testing.assert_close(slopes[0], slopes[1], rtol=0, atol=0.25 * bound)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_what_float32_cannot_tell_from_certainty_does_not_pull(temperature: float) -> None:
    rounding = -float(np.spacing(np.float32(60)))  # of a logit, in a log-probability
    teacher = torch.tensor([-20.0, -20.0, rounding, 0.0])
    student = torch.tensor([0.0, rounding, 0.0, rounding])
    loss, slope = loss_and_slope(teacher, student, temperature)
    assert slope.eq(0).all()
    assert loss[0] == loss[1] > 0
    assert loss[2:].eq(0).all()


def test_the_teacher_gets_no_gradient() -> None:
    teacher = doubles([-1.0]).requires_grad_()
    student = doubles([-2.0]).requires_grad_()
    chunk_divergence(teacher, student, 1.0).sum().backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_one_token_a_chunk_is_the_binary_kl_of_each_token() -> None:
    torch.manual_seed(1)
    teacher, student = (torch.randn(6, 9, dtype=torch.float64).log_softmax(-1) for _ in range(2))
    chunks = torch.arange(6, dtype=torch.int32)
    sums = [chunk_sums(logps[:, 0], chunks, 6) for logps in (teacher, student)]
    binary = [
        torch.stack([logps[:, 0].exp(), -logps[:, 0].expm1()]) for logps in (teacher, student)
    ]
    expected = (binary[0] * (binary[0] / binary[1]).log()).sum(0)
    torch.testing.assert_close(chunk_divergence(*sums, temperature=1.0), expected)


@given(st.lists(st.integers(1, 4), max_size=8), st.integers(0, 3), st.randoms())
def test_chunks_add_up_to_the_tokens_that_are_in_them(
    sizes: list[int], left: int, random: Any
) -> None:
    n = sum(sizes) + left
    chunks = [chunk for chunk, size in enumerate(sizes) for _ in range(size)]
    chunk_of = torch.tensor(chunks + [-1] * left, dtype=torch.int32)
    logps = torch.tensor([-random.random() for _ in range(n)], dtype=torch.float64)
    sums = chunk_sums(logps, chunk_of, len(sizes))
    assert sums.sum().item() == pytest.approx(logps[chunk_of >= 0].sum().item())
    parts = torch.split(logps, [*sizes, left])[: len(sizes)]
    assert sums.tolist() == pytest.approx([part.sum().item() for part in parts])


def test_sums_are_differentiable_and_leave_out_what_is_in_no_chunk() -> None:
    logps = doubles([-1.0, -2.0, -3.0, -4.0]).requires_grad_()
    chunk_of = torch.tensor([0, -1, 1, 1], dtype=torch.int32)
    assert torch.autograd.gradcheck(lambda given: chunk_sums(given, chunk_of, 3), (logps,))
    poisoned = torch.tensor([-1.0, math.nan, -3.0, -4.0], requires_grad=True)
    sums = chunk_sums(poisoned, chunk_of, 3)
    assert sums.tolist() == [-1.0, -7.0, 0.0]
    sums.sum().backward()
    assert poisoned.grad is not None
    assert poisoned.grad.tolist() == [1.0, 0.0, 1.0, 1.0]


def test_sums_are_in_float32() -> None:
    logps = torch.full((1000,), -0.01, dtype=torch.bfloat16)
    sums = chunk_sums(logps, torch.zeros(1000, dtype=torch.int32), 1)
    assert sums.dtype == torch.float32
    assert sums.item() == pytest.approx(1000 * logps[0].item(), rel=1e-4)
