"""Train a model on tokens and save it: what both training stages do after reading their rows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from llm_distill.errors import ModelError
from llm_distill.stage import ModelOutput
from llm_distill.tracking import sent
from llm_distill.training.settings import lora_config, trainer_arguments
from llm_distill.training.weights import load_start, save_adapter, save_full, training_source

if TYPE_CHECKING:
    from datasets import Dataset

    from llm_distill.models.sources import ModelSource
    from llm_distill.stage import Context
    from llm_distill.training.settings import TrainingSettings

log = logging.getLogger("llm_distill")

MakeTrainer = Callable[[Any, dict[str, Any], Any], Any]
"""From (model, trainer arguments, PEFT config or None) to a trainer of `training.sft` or `.dpo`."""


def train_and_save(
    settings: TrainingSettings,
    source: ModelSource,
    dataset: Dataset,
    make_trainer: MakeTrainer,
    context: Context,
    seed: int,
) -> ModelOutput:
    """Train `source`; the model or adapter lies in `work_dir/model` then.

    Raises:
        ModelError: see `trainer_arguments`, `run_trainer` and `memory_explained`.
    """
    from llm_distill.training.loop import memory_explained, run_trainer

    arguments = trainer_arguments(settings, context, seed)
    directory = context.work_dir / "model"
    with memory_explained(settings), sent(settings.report_to, context.tracked):
        start = load_start(training_source(source, full=settings.trains_weights()))
        with _adapter_fits(settings, source):
            trainer = make_trainer(start.model, arguments, lora_config(settings, start.model))
        context.metrics.update(n_rows=len(dataset), n_tokens=_n_tokens(dataset))
        run_trainer(trainer, context)
        if settings.peft is None:
            save_full(start, source, directory)
        else:
            save_adapter(trainer.accelerator.unwrap_model(trainer.model), source, directory)
    return ModelOutput(directory, base=None if settings.peft is None else source)


def save_untrained(
    settings: TrainingSettings, source: ModelSource, context: Context, seed: int
) -> ModelOutput:
    """What no step of training gives: the model as it is, or an adapter that adds nothing to it.

    Raises:
        ModelError: see `memory_explained`.
    """
    from llm_distill.training.loop import memory_explained

    directory = context.work_dir / "model"
    with memory_explained(settings):
        start = load_start(training_source(source, full=settings.trains_weights()))
        if settings.peft is None:
            save_full(start, source, directory)
        else:
            from peft import get_peft_model
            from transformers import set_seed

            set_seed(seed)  # B of an adapter begins as 0, A at random
            with _adapter_fits(settings, source):
                adapted = get_peft_model(start.model, lora_config(settings, start.model))
            save_adapter(adapted, source, directory)
    context.metrics.update(n_rows=0, n_tokens=0, steps=0, train_loss=None, history=[])
    return ModelOutput(directory, base=None if settings.peft is None else source)


@contextmanager
def _adapter_fits(settings: TrainingSettings, source: ModelSource) -> Iterator[None]:
    """Says which setting is wrong where the model has no such layers, or its output layer is one.

    Raises:
        ModelError: instead of PEFT's or TRL's ValueError.
    """
    try:
        yield
    except ValueError as error:
        said = str(error).lower().replace("_", " ")
        if settings.peft is None or "target modules" not in said:
            raise
        raise ModelError(
            f"no LoRA adapter for model '{source.name}' with peft.target_modules "
            f"{settings.peft.target_modules!r}: {error}"
        ) from error


def _n_tokens(dataset: Dataset) -> int:
    """Of all rows, once each; a pair's prompt is read twice, with either answer."""
    times = {"input_ids": 1, "prompt_ids": 2, "chosen_ids": 1, "rejected_ids": 1}
    columns = [
        (n, dataset.data.column(name)) for name, n in times.items() if name in dataset.features
    ]
    return sum(n * len(chunk.flatten()) for n, column in columns for chunk in column.chunks)
