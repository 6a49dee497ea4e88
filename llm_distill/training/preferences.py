"""TRL's DPO and KTO trainers over answers that are token ids already.

TRL would tokenize prompt and answer as one text; see `training.encoder`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

from llm_distill.training.loop import Guarded
from llm_distill.training.weights import reference_model

if TYPE_CHECKING:
    from datasets import Dataset

    from llm_distill.models.sources import ModelSource
    from llm_distill.training.settings import PreferenceSettings

LABEL = "label"
WITHOUT_KL = "apo_zero_unpaired"
"""The one loss of KTO's that does not compare an answer with those to other prompts."""


class _Tokens(Guarded):
    """The loss of an optimizer step is the mean over its rows.

    TRL's is the mean over passes and processes of each one's mean, in which a row counts more where
    there are fewer: at the end of an epoch.
    """

    divided_by_passes = True

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """The loss of a pass, which is divided by the number of passes and of processes next."""
        accelerator: Any = self.accelerator  # type: ignore[attr-defined]
        n_means = len(self.own_rows) * accelerator.num_processes
        share = self.rows_here * n_means / self.all_rows
        return super().compute_loss(*args, **kwargs) * share  # type: ignore[misc]


class TokenDPOTrainer(_Tokens, DPOTrainer):  # type: ignore[misc]
    """Takes `prompt_ids`, `chosen_ids` and `rejected_ids` as they are (int, [tokens] each)."""


class TokenKTOTrainer(_Tokens, KTOTrainer):  # type: ignore[misc]
    """Takes `prompt_ids` and `completion_ids` (int, [tokens] each) and `label` (bool)."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """With a KL term that is a mean over the rows of a pass; TRL's is one over processes."""
        accelerator = self.accelerator
        if accelerator.num_processes == 1 or not self.calculate_KL:
            return super().compute_loss(*args, **kwargs)
        gather = accelerator.gather_for_metrics

        def of_kl(mean: torch.Tensor) -> torch.Tensor:
            accelerator.gather_for_metrics = gather  # the others are sums
            n_rows = gather(torch.tensor(self.rows_here, device=mean.device))
            found: torch.Tensor = gather(mean) * n_rows * len(n_rows) / n_rows.sum()
            return found

        accelerator.gather_for_metrics = of_kl
        return super().compute_loss(*args, **kwargs)


TRAINERS = {"dpo": (TokenDPOTrainer, DPOConfig), "kto": (TokenKTOTrainer, KTOConfig)}


def preference_trainer(
    method: Literal["dpo", "kto"],
    settings: PreferenceSettings,
    source: ModelSource,
    model: Any,
    dataset: Dataset,
    tokenizer: Any,
    arguments: dict[str, Any],
    peft_config: Any,
    held_out: Dataset | None = None,
) -> Any:
    """The trainer. The reference is the untrained model: with an adapter, the model without it.

    source: the untrained model. arguments: those of TRL's config, but for dropout.
    """
    trainer, config = TRAINERS[method]
    # TRL turns all dropout off by default, an adapter's too.
    keeps_dropout = settings.peft is not None and settings.peft.lora_dropout > 0
    return trainer(
        model=model,
        ref_model=None if settings.peft is not None else reference_model(source),
        args=config(**arguments, disable_dropout=not keeps_dropout),
        train_dataset=dataset,
        eval_dataset=held_out,
        processing_class=tokenizer,
        peft_config=peft_config,
    )


def kto_dataset(dataset: Dataset, batch_size: int, loss_type: str, seed: int) -> Dataset:
    """The rows in the order of training, each with the answer of another row of its batch.

    TRL reads them in this order, so they are shuffled here. The KL term is estimated from each
    prompt with the answer before it in the batch (section 4.2 of arXiv 2402.01306).

    dataset: `label` is above 0 for an answer that is wanted. batch_size: rows in a forward pass.
    """
    labels = [label > 0 for label in dataset[LABEL]]
    whole = dataset.remove_columns(LABEL).add_column(LABEL, labels)
    shuffled = whole.shuffle(seed=seed).flatten_indices()
    if loss_type == WITHOUT_KL:
        return shuffled
    answers = shuffled["completion_ids"][:]
    mismatched = []
    for start in range(0, len(answers), batch_size):
        batch = answers[start : start + batch_size]
        mismatched += [batch[-1], *batch[:-1]]
    return shuffled.add_column("KL_completion_ids", mismatched)
