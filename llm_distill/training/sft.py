"""TRL's SFT trainer over rows that are token ids already, each with a weight or all alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from trl import SFTConfig, SFTTrainer

from llm_distill.training.data import NO_LOSS
from llm_distill.training.loop import Guarded

if TYPE_CHECKING:
    from datasets import Dataset

WEIGHT = "weight"


class TokenSFTTrainer(Guarded, SFTTrainer):  # type: ignore[misc]
    """Takes `input_ids` and `labels` as they are (int, [tokens] each)."""

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Any:
        """How many tokens a step has, without those of a row that stands in for none."""
        for batch, n_rows in zip(batch_samples, self.own_rows, strict=False):
            if not n_rows:
                batch["labels"] = torch.full_like(batch["labels"], NO_LOSS)
        return super()._get_num_items_in_batch(batch_samples, device)


class WeightedSFTTrainer(TokenSFTTrainer):
    """Takes a `weight` (float64) with each row, above 0.

    The loss of an optimizer step is Σ wᵢ ℓᵢ / Σ wᵢ nᵢ over its rows, with ℓ the summed cross
    entropy of a row's labelled tokens and n their number. That is the loss of a step in which row i
    stands wᵢ times, and it is the same for all weights times a constant.
    """

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns: list[str] = self._signature_columns  # all others are taken out of the rows
        if WEIGHT not in columns:
            columns.append(WEIGHT)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """The batches of an optimizer step; weights are divided by their mean over its tokens.

        TRL divides the summed loss by the number of tokens, n: Σ (w / w̄) ℓ / n = Σ w ℓ / Σ w n.
        """
        batches, n_items = super().get_batch_samples(*args, **kwargs)
        if batches:
            sums = sum(_token_sums(batch) for batch in batches)
            n_tokens, weighted = self.accelerator.gather(sums).view(-1, 2).sum(0)
            for batch in batches:
                batch[WEIGHT] = batch[WEIGHT] * n_tokens / weighted
        return batches, n_items

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """TRL's, which sums what the model says of each token, with that times the row's weight."""
        weights = inputs.pop(WEIGHT)

        def weighted(**values: Any) -> Any:
            outputs = model(**values)
            outputs.log_probs = outputs.log_probs * weights.to(outputs.log_probs.dtype)[:, None]
            return outputs

        return super().compute_loss(weighted, inputs, *args, **kwargs)


def sft_trainer(
    model: Any, dataset: Dataset, tokenizer: Any, arguments: dict[str, Any], peft_config: Any
) -> TokenSFTTrainer:
    """The trainer; its loss is the mean over all labelled tokens of an optimizer step.

    dataset: with a column `weight`, it is the weighted mean.
    """
    is_weighted = WEIGHT in dataset.column_names
    made = (WeightedSFTTrainer if is_weighted else TokenSFTTrainer)(
        model=model,
        args=SFTConfig(**arguments, dataset_kwargs={"skip_prepare_dataset": True}),
        train_dataset=dataset,
        processing_class=tokenizer,
        peft_config=peft_config,
    )
    if is_weighted:
        made.data_collator = partial(_collate, made.data_collator)
    return made


def _collate(
    collate: Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]],
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    weights = torch.tensor([row[WEIGHT] for row in rows], dtype=torch.float64)
    return {**collate(rows), WEIGHT: weights}


def _token_sums(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """(Σ n, Σ w n) over the rows of a batch, n a row's labelled tokens."""
    n = (batch["labels"][:, 1:] != NO_LOSS).sum(1)
    return torch.stack([n.sum().to(torch.float64), (batch[WEIGHT] * n).sum()])
