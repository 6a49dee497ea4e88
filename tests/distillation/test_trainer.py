"""The training loop's own part: padding, mixed precision, and a gradient that is NaN."""

from __future__ import annotations

import pytest
import torch

from llm_distill.distillation.settings import DistillSettings
from llm_distill.errors import ModelError
from llm_distill.methods import chunk_loss as losses
from tests.distillation.trainers import trainer


@pytest.fixture
def made(student, teacher, tmp_path):
    def make(settings, **arguments):
        return trainer(student, teacher, settings, tmp_path / "run", **arguments)

    return make


@pytest.mark.parametrize("name", ["alm", "sft", "uld", "gold", "p_kl", "h_kl", "simct"])
def test_rows_of_different_lengths_do_not_disturb_each_other(name, made):
    """Teacher and student say of a row in a batch what they say of it alone."""
    built = made(DistillSettings(losses={name: 1.0}))
    built._totals = {name: 1}  # sums, then
    rows = [built.train_dataset[i] for i in range(8)]
    assert len({len(row["input_ids"]) for row in rows}) > 4

    def total(examples, padding):
        batch = built.data_collator(examples)
        is_token = batch["attention_mask"].bool()
        batch["input_ids"] = batch["input_ids"].where(is_token, padding)
        with torch.no_grad():
            return built.compute_loss(built.model.eval(), batch).item()

    alone = [total([row], 0) for row in rows]
    assert min(alone) > 0
    for order, padding in ((rows, 0), (rows, 7), (rows[::-1], 0)):
        assert total(order, padding) == pytest.approx(sum(alone), rel=1e-5)
    assert total(rows[3:5], 7) == pytest.approx(alone[3] + alone[4], rel=1e-5)


@pytest.mark.parametrize("combine", ["fixed", "grad_mag"])
def test_a_step_in_mixed_precision_is_nearly_that_in_float32(combine, made):
    points = []
    for bf16 in (False, True):
        built = made(DistillSettings(combine=combine), bf16=bf16)
        assert built.model.dtype == torch.float32
        built.train()
        points.append(next(point for point in built.state.log_history if "loss" in point))
    for name in ("loss", "alm", "sft", "grad_norm"):
        assert points[0][name] == pytest.approx(points[1][name], rel=0.05)
        assert points[0][name] != points[1][name]


@pytest.mark.parametrize("times", [1, 2])
def test_grad_mag_names_the_loss_whose_gradient_is_nan(times, made, monkeypatch):
    """In the second step; the loss itself stays what it was."""
    whole = losses.chunk_divergence
    built = made(
        DistillSettings(combine="grad_mag"),
        max_steps=3,
        per_device_train_batch_size=8 // times,
        gradient_accumulation_steps=times,
    )

    def divergence(of_teacher, of_student, *rest):
        found = whole(of_teacher, of_student, *rest)
        if built.state.global_step < 1:
            return found
        nothing = of_student - of_student.detach()
        spoilt = torch.where(torch.arange(len(nothing)) == 0, nothing, 0.0)
        spoilt.register_hook(lambda gradient: gradient * torch.nan)
        return found + spoilt

    monkeypatch.setattr(losses, "chunk_divergence", divergence)
    message = r"the gradient of alm has the size nan at step 2; lower learning_rate \(now 0.0"
    with pytest.raises(ModelError, match=message):
        built.train()
