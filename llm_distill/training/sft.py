"""TRL's SFT trainer over rows that are token ids already, each with a weight or all alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from trl import SFTConfig, SFTTrainer

from llm_distill.training.data import NO_LOSS
from llm_distill.training.launch import is_main
from llm_distill.training.loop import Guarded
from llm_distill.training.packing import check_rows_stay_apart

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
        weights = inputs.pop(WEIGHT)[:, 1:]

        def weighted(**values: Any) -> Any:
            outputs = model(**values)
            outputs.log_probs = outputs.log_probs * weights.to(outputs.log_probs.dtype)
            return outputs

        return super().compute_loss(weighted, inputs, *args, **kwargs)


def sft_trainer(
    model: Any,
    dataset: Dataset,
    tokenizer: Any,
    arguments: dict[str, Any],
    peft_config: Any,
    *,
    padding_free: bool = False,
    held_out: Dataset | None = None,
) -> TokenSFTTrainer:
    """The trainer; its loss is the mean over all labelled tokens of an optimizer step.

    dataset: with a column `weight`, it is the weighted mean.
    padding_free: the rows of a forward pass stand in one sequence.

    Raises:
        ModelError: with padding_free, see `check_rows_stay_apart`.
    """
    if padding_free:
        if is_main():
            check_rows_stay_apart(model, tokenizer.pad_token_id)
        # Rows are no longer than max_length already, and TRL would look for it in what it packs.
        arguments = {**arguments, "padding_free": True, "max_length": None}
    is_weighted = WEIGHT in dataset.column_names
    made = (WeightedSFTTrainer if is_weighted else TokenSFTTrainer)(
        model=model,
        args=SFTConfig(**arguments, dataset_kwargs={"skip_prepare_dataset": True}),
        train_dataset=dataset,
        eval_dataset=held_out,
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
    """With the weight of each token's row, as float64 in the shape of the tokens."""
    weights = torch.tensor([row[WEIGHT] for row in rows], dtype=torch.float64)
    batch = collate(rows)
    row_of = batch.get("seq_idx")  # of each token, where the rows stand in one sequence
    of_tokens = weights[:, None] if row_of is None else weights[row_of.long()]
    return {**batch, WEIGHT: of_tokens.expand(batch["labels"].shape)}


def _token_sums(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """(Σ n, Σ w n) over the rows of a batch, n a row's labelled tokens."""
    counts = (batch["labels"][:, 1:] != NO_LOSS).to(torch.float64)
    return torch.stack([counts.sum(), (batch[WEIGHT][:, 1:] * counts).sum()])
