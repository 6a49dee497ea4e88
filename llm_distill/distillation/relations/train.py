"""From settings, a student and a teacher to a trained student on disk."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from transformers import set_seed

from llm_distill.distillation.relations.objective import objective_of, train_what_is_reached
from llm_distill.distillation.relations.trainer import relations_trainer
from llm_distill.doing import doing
from llm_distill.models.backbones import load_whole, writes
from llm_distill.models.limits import check_dataset
from llm_distill.stage import ModelOutput
from llm_distill.tracking import sent
from llm_distill.training.launch import is_main, use_one_device
from llm_distill.training.loop import out_of_memory_explained, run_trainer
from llm_distill.training.settings import trainer_arguments
from llm_distill.training.weights import Start, load_start, save_encoder, save_full

if TYPE_CHECKING:
    from datasets import Dataset

    from llm_distill.distillation.relations.settings import RelationSettings
    from llm_distill.models.sources import ModelSource
    from llm_distill.stage import Context


def train_and_save_relations(
    settings: RelationSettings,
    source: ModelSource,
    teacher: ModelSource,
    dataset: Dataset,
    held_out: Dataset | None,
    tokenizer: Any,
    context: Context,
    seed: int,
) -> ModelOutput:
    """Train `source`; the whole model lies in `work_dir/model` then.

    A decoder keeps the output layer that it came with, an encoder loses any head.

    Raises:
        ModelError: see `objective_of`, `load_whole`, `run_trainer`, `out_of_memory_explained`.
    """
    with out_of_memory_explained(settings), sent(settings.report_to, context.tracked):
        use_one_device()
        arguments = trainer_arguments(settings, context, seed)
        set_seed(seed)
        start = load_student(source)
        student = start.model.base_model
        above = load_whole(teacher).base_model.requires_grad_(False)
        check_dataset(dataset, student, source.name)
        check_dataset(dataset, above, teacher.name)
        objective = objective_of(settings, above, student, (teacher.name, source.name))
        left = train_what_is_reached(student, objective)
        if objective.causal:
            context.warn(
                f"{left:,} parameters after the projections of layer {objective.at_student.layer} "
                "stay as they are, and do not fit those before them: train the result on texts "
                "(train_sft, train_distill) before it is asked"
            )
        n_tokens = sum(len(chunk.flatten()) for chunk in dataset.data.column("input_ids").chunks)
        context.metrics.update(
            n_rows=len(dataset),
            n_tokens=n_tokens,
            teacher_layer=objective.at_teacher.layer,
            student_layer=objective.at_student.layer,
            relation_heads=dict(objective.heads),
            untrained_parameters=left,
        )
        trainer = relations_trainer(student, objective, dataset, held_out, tokenizer, arguments)
        run_trainer(trainer, context)
        if is_main():
            with doing("save the model"):
                save_student(start, source, context)
    return ModelOutput(context.work_dir / "model")


def load_student(source: ModelSource) -> Start:
    """The model in float32, all of its weights to be trained."""
    if writes(source):
        return load_start(replace(source, dtype="float32"))
    model = load_whole(source)
    model.requires_grad_(True)
    return Start(model, copy.deepcopy(model.config), None)


def save_student(start: Start, source: ModelSource, context: Context) -> None:
    """A model directory, with the tokenizer."""
    directory = context.work_dir / "model"
    if writes(source):
        save_full(start, source, directory)
    else:
        start.model.config = start.config
        save_encoder(start.model, source, directory)
