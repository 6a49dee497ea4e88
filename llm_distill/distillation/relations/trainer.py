"""The trainer of relations: transformers' own, with a mean over the tokens of a whole step."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from transformers import Trainer, TrainingArguments

from llm_distill.distillation.relations.objective import Objective
from llm_distill.methods.relations import rows_that_count
from llm_distill.training.classifier import collate
from llm_distill.training.loop import Guarded

if TYPE_CHECKING:
    from datasets import Dataset


class RelationsTrainer(Guarded, Trainer):  # type: ignore[misc]
    """Takes `input_ids` (int, [tokens]) by row.

    The loss of an optimizer step is Σ weight · mean, a mean for each relation over heads and over
    the tokens of the whole step: however the step is cut into batches and processes.
    """

    loss_is_scaled_for_ga = True  # it is divided by what the whole step has

    def __init__(self, objective: Objective, **settings: Any) -> None:
        super().__init__(**settings)
        self._objective = objective
        self._whole = 1.0
        self._sums: dict[str, Any] = {}
        self._steps = 0  # since the last point of the history

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """The batches of a step, whose tokens are counted here over all processes."""
        batches, n_items = super().get_batch_samples(*args, **kwargs)
        if batches:
            own = [b["attention_mask"] for b, n in zip(batches, self.own_rows, strict=True) if n]
            counted = [rows_that_count(m.bool(), causal=self._objective.causal).sum() for m in own]
            total = torch.stack(counted).sum() if counted else torch.zeros((), dtype=torch.int64)
            whole = self.accelerator.reduce(total.to(self.args.device), "sum").item()
            self._whole, self._steps = max(1, whole), self._steps + 1
        return batches, n_items

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """A batch's share of the loss of its step."""
        here = bool(self.rows_here)
        sums = self._objective.sums(model, inputs)
        shares = {name: value / self._whole * here for name, value in sums.items()}
        for name, share in shares.items():
            self._sums[name] = self._sums.get(name, 0.0) + share.detach()
        loss = sum(self._objective.weights[name] * share for name, share in shares.items())
        # DDP takes the mean of the processes' gradients, and this is a share of a sum.
        return torch.as_tensor(loss) * self.accelerator.num_processes

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """See `HeldOut.evaluate`; what the training has yet to log is left alone."""
        kept = self._whole, self._sums, self._steps
        self._sums, self._steps = {}, 0
        try:
            return super().evaluate(*args, **kwargs)
        finally:
            self._whole, self._sums, self._steps = kept

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """With each relation's mean over the steps since the last point."""
        if self._steps:
            before = "eval_" if "eval_loss" in logs else ""
            for name, value in self._sums.items():
                logs[before + name] = self.accelerator.reduce(value, "sum").item() / self._steps
            self._sums, self._steps = {}, 0
        super().log(logs, start_time)


def relations_trainer(
    student: Any,
    objective: Objective,
    dataset: Dataset,
    held_out: Dataset | None,
    tokenizer: Any,
    arguments: dict[str, Any],
) -> RelationsTrainer:
    """The trainer. student: a backbone; the objective's teacher is put on its device."""
    known = {field.name for field in dataclasses.fields(TrainingArguments)}
    given = {name: value for name, value in arguments.items() if name in known}
    trainer = RelationsTrainer(
        objective,
        model=student,
        args=TrainingArguments(**given, remove_unused_columns=False),
        train_dataset=dataset,
        eval_dataset=held_out,
        data_collator=partial(collate, pad_token_id=tokenizer.pad_token_id),
        processing_class=tokenizer,
    )
    objective.teacher.to(trainer.args.device)
    return trainer
