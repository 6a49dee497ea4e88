"""The loss on rows that are held out, while a model is trained: that of one large step."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch.utils.data import DataLoader

from llm_distill.training.steps import SharedBatches, Shares, StepRows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager


class HeldOut:
    """Mixed into TRL's trainers.

    What they log is a mean over batches of each one's mean, where a row counts more if its batch is
    short. This is the loss that an optimizer step over all of the rows would have, on however many
    processes.
    """

    divided_by_passes: ClassVar[bool] = False
    """Whether a trainer divides the loss of a pass by the number of passes."""
    own_rows: Sequence[int] = ()
    """Of this process, in the passes of the current step: how many rows it has."""
    rows_here: int = 1
    """Of this process, in the current pass; 0 where it was given another's row for want of one."""
    _shares: Shares | None = None

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Log the loss and TRL's own figures, under names with `eval_`."""
        trainer: Any = self
        was_training = trainer.model.training
        trainer.model.eval()
        kept = self._shares
        try:
            with torch.no_grad():
                figures = {"eval_loss": self._held_out_loss()}
            trainer.log(dict(figures))  # which TRL adds its own to, by the model's mode
        finally:
            self._shares = kept
            trainer.model.train(was_training)
        trainer.control = trainer.callback_handler.on_evaluate(
            trainer.args, trainer.state, trainer.control, figures
        )
        return figures

    def gathering(self) -> AbstractContextManager[None]:
        """Around the loss of a pass."""
        return nullcontext()

    def _held_out_loss(self) -> float:
        trainer: Any = self
        rows = trainer._remove_unused_columns(trainer.eval_dataset, description="evaluation")
        world, size = trainer.args.world_size, trainer.args.per_device_eval_batch_size
        passes = -(-len(rows) // (size * world))
        self._shares = Shares(len(rows), StepRows(size, passes), world)
        loader = DataLoader(
            rows,
            batch_sampler=SharedBatches(range(len(rows)), self._shares, trainer.args.process_index),
            collate_fn=trainer.data_collator,
            generator=torch.Generator(),  # or each measurement would draw from the training's
        )
        batches, n_items = trainer.get_batch_samples(iter(loader), passes, trainer.args.device)
        total = torch.zeros((), device=trainer.args.device)
        for n_rows, batch in zip(self.own_rows, batches, strict=True):
            self.rows_here = n_rows
            inputs = trainer._prepare_inputs(batch)
            with trainer.compute_loss_context_manager(), self.gathering():
                total += trainer.compute_loss(trainer.model, inputs, num_items_in_batch=n_items)
        if self.divided_by_passes:
            total /= len(batches)
        return float(trainer.accelerator.reduce(total, "mean").item())
