"""The trainer of train_distill with a teacher in memory, without the stage around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from llm_distill.distillation.alignment.encoding import row_encoder, turns_of
from llm_distill.distillation.dataset import RowPreparation, prepared
from llm_distill.distillation.hacking.settings import WatchSettings
from llm_distill.distillation.hacking.watch import Measure, Watch
from llm_distill.distillation.rollouts.rows import RolloutRows
from llm_distill.distillation.rollouts.settings import RolloutSettings
from llm_distill.distillation.rollouts.step import Rollouts
from llm_distill.distillation.rollouts.writing import Writer
from llm_distill.distillation.settings import DistillSettings
from llm_distill.distillation.teacher.on_engine import TeacherOnEngine
from llm_distill.distillation.teacher.online import TeacherInMemory
from llm_distill.distillation.teacher.signal import TeacherSignal
from llm_distill.distillation.trainer import DistillTrainer, distill_trainer
from llm_distill.models.sources import ModelSource, load_model
from tests.distillation import tiny

ARGUMENTS = {
    "per_device_train_batch_size": len(tiny.ROWS),
    "max_steps": 1,
    "optim": "sgd",
    "learning_rate": 1e-3,
    "lr_scheduler_type": "constant",
    "max_grad_norm": 0,  # clipping would hide a gradient of a wrong size
    "bf16": False,
    "use_cpu": True,
    "report_to": "none",
    "save_strategy": "no",
    "logging_steps": 1,
    "disable_tqdm": True,
    "seed": 1,
}


def nothing(reason: str) -> None:
    raise AssertionError(f"a row was dropped: {reason}")


def trainer(
    student: ModelSource,
    teacher: ModelSource,
    settings: DistillSettings,
    directory: Path,
    rows: Sequence[dict[str, Any]] = tiny.ROWS,
    model: Any = None,
    peft_config: Any = None,
    signal: Callable[..., TeacherSignal] = TeacherInMemory,
    rollouts: RolloutSettings | None = None,
    watch: WatchSettings | None = None,
    **arguments: Any,
) -> DistillTrainer:
    """model: the student's, loaded. signal: is given teacher, its encoder, and the settings.

    watch: is watched on the rows themselves, by ALM.
    """
    encoder, of_teacher = row_encoder(student, None), row_encoder(teacher, None)

    def turns(row: Any) -> Any:
        return turns_of(row, "completion", lambda row: row["prompt"])

    says = signal(teacher, of_teacher, settings)
    if isinstance(says, TeacherInMemory):
        says = replace(says, student=encoder)
    read = encoder, of_teacher, turns, turns, settings, says
    preparation, written = RowPreparation(*read), None
    if rollouts is not None:

        def with_text(row: Any, text: str) -> Any:
            return {**row, "completion": text}

        preparation = RolloutRows(*read, with_text=with_text, rollouts=rollouts)
        asked = says if isinstance(says, TeacherOnEngine) else None
        writer = Writer(encoder, rollouts)
        written = Rollouts(rollouts, rows, preparation, writer, 1, 0.0, nothing, asked)
    watched = None
    if watch is not None:
        by_alm = DistillSettings(losses={"alm": 1.0}, alm=settings.alm)
        own = replace(says, settings=by_alm)
        same = RowPreparation(encoder, of_teacher, turns, turns, by_alm, own)
        measure = Measure(prepared(rows[:5], same, nothing, "rows", 0.0), by_alm, own)
        watched = Watch(watch, measure, None, 2, constant_rate=True)
    return distill_trainer(
        load_model(student).train() if model is None else model,
        prepared(rows, preparation, nothing, "rows", 0.0),
        encoder,
        {"output_dir": str(directory), **ARGUMENTS, **arguments},
        peft_config,
        settings,
        says,
        rollouts=written,
        watch=watched,
    )


def weights(trained: DistillTrainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trained.model.named_parameters()}
