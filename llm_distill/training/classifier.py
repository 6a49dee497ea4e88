"""A classifier's trainer: a loss towards a share for each class, weighted by row."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import Trainer, TrainingArguments, set_seed

from llm_distill.doing import doing
from llm_distill.evaluation.results import shown
from llm_distill.methods.class_losses import ClassLoss
from llm_distill.models.classifiers import load_classifier
from llm_distill.models.text_batches import right_padded
from llm_distill.stage import ModelOutput
from llm_distill.tracking import sent
from llm_distill.training.launch import is_main, is_sharded, use_one_device
from llm_distill.training.loop import Guarded, out_of_memory_explained, run_trainer
from llm_distill.training.lora import lora_config
from llm_distill.training.settings import trainer_arguments
from llm_distill.training.weights import save_classifier

if TYPE_CHECKING:
    from datasets import Dataset

    from llm_distill.models.sources import ModelSource
    from llm_distill.stage import Context
    from llm_distill.training.fusion import FusionPlan
    from llm_distill.training.settings import TrainingSettings

TARGET, GOLD, WEIGHT = "target", "gold", "weight"


class ClassifierTrainer(Guarded, Trainer):  # type: ignore[misc]
    """Takes `input_ids` (int, [tokens]), `target` (float, [classes]) and `weight` (float) by row,
    and `gold` (int) where the loss reads the gold label.

    The loss of an optimizer step is Σ wᵢ ℓᵢ / Σ wᵢ over its rows, with ℓ that of `objective`:
    however the step is cut into batches and processes.
    """

    objective = ClassLoss()
    loss_is_scaled_for_ga = True  # it is divided by what the whole step has
    _whole = 1.0

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """The batches of a step, whose weights are summed here over all processes."""
        batches, n_items = super().get_batch_samples(*args, **kwargs)
        if batches:
            own = [b[WEIGHT].sum() for b, n in zip(batches, self.own_rows, strict=True) if n]
            total = torch.stack(own).sum() if own else torch.zeros((), dtype=torch.float64)
            self._whole = self.accelerator.reduce(total.to(self.args.device), "sum").item()
        return batches, n_items

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """A batch's share of the loss of its step."""
        targets, weights = inputs.pop(TARGET), inputs.pop(WEIGHT)
        gold = inputs.pop(GOLD, None)
        logits = model(**inputs).logits
        losses = self.objective(logits, self.wanted(logits, targets, gold), gold)
        losses = losses * weights.to(losses.dtype)
        share = losses.sum() / self._whole * bool(self.rows_here)
        # DDP takes the mean of the processes' gradients, and this is a share of a sum.
        return torch.as_tensor(share * self.accelerator.num_processes)

    def wanted(
        self, logits: torch.Tensor, targets: torch.Tensor, gold: torch.Tensor | None
    ) -> torch.Tensor:
        """What the rows are trained towards: [rows, classes]."""
        return targets


def collate(rows: Sequence[Mapping[str, Any]], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Rows as a batch, padded on the right."""
    batch = right_padded([row["input_ids"] for row in rows], pad_token_id)
    if TARGET in rows[0]:
        targets = np.asarray([row[TARGET] for row in rows], dtype=np.float32)
        weights = [float(row[WEIGHT]) for row in rows]
        batch[TARGET] = torch.as_tensor(targets)
        batch[WEIGHT] = torch.tensor(weights, dtype=torch.float64)
    if GOLD in rows[0]:
        batch[GOLD] = torch.tensor([int(row[GOLD]) for row in rows])
    return batch


def train_and_save_classifier(
    settings: TrainingSettings,
    source: ModelSource,
    classes: Sequence[str],
    objective: ClassLoss,
    dataset: Dataset,
    held_out: Dataset | None,
    tokenizer: Any,
    context: Context,
    seed: int,
    fusion: FusionPlan | None = None,
) -> ModelOutput:
    """Train `source` with a head for these classes; the whole model lies in `work_dir/model` then.

    fusion: how the ratios of several sources are learned; None: there is one target a row.

    Raises:
        ModelError: see `load_classifier`, `run_trainer` and `out_of_memory_explained`.
    """
    with out_of_memory_explained(settings), sent(settings.report_to, context.tracked):
        use_one_device()
        given = trainer_arguments(settings, context, seed)
        known = {field.name for field in dataclasses.fields(TrainingArguments)}
        arguments = {name: value for name, value in given.items() if name in known}
        set_seed(seed)  # the head begins at random
        model = load_classifier(source, classes, several=objective.several)
        model.config.pad_token_id = tokenizer.pad_token_id
        adapter = lora_config(settings, model, "SEQ_CLS")
        if adapter is not None:
            from peft import get_peft_model

            model = get_peft_model(model, adapter)
        kind: type[ClassifierTrainer] = ClassifierTrainer
        if fusion is not None:
            from llm_distill.evaluation.teacher_figures import ratio_table
            from llm_distill.training.fusion import FusionTrainer

            kind = FusionTrainer
        trainer: Any = kind(
            model=model,
            args=TrainingArguments(**arguments, remove_unused_columns=False),
            train_dataset=dataset,
            eval_dataset=held_out,
            data_collator=partial(collate, pad_token_id=tokenizer.pad_token_id),
            processing_class=tokenizer,
        )
        trainer.objective = objective
        if fusion is not None:
            trainer.plan_fusion(fusion, len(classes), seed)
        n_tokens = sum(len(chunk.flatten()) for chunk in dataset.data.column("input_ids").chunks)
        context.metrics.update(n_rows=len(dataset), n_tokens=n_tokens, classes=list(classes))
        run_trainer(trainer, context)
        if fusion is not None:
            context.metrics.update(shown(ratio_table(trainer.ratios_of_rows(), trainer.sources)))
        whole = trainer.accelerator.get_state_dict(trainer.model_wrapped) if is_sharded() else None
        if is_main():
            trained = trainer.accelerator.unwrap_model(trainer.model)
            if settings.peft is not None:
                trained = trained.merge_and_unload()
            with doing("save the model"):
                save_classifier(trained, source, context.work_dir / "model", whole)
    return ModelOutput(context.work_dir / "model")
