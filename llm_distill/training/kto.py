"""TRL's KTO trainer over answers that are token ids already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trl import KTOConfig, KTOTrainer

from llm_distill.training.loop import Guarded

if TYPE_CHECKING:
    from datasets import Dataset

LABEL = "label"
WITHOUT_KL = "apo_zero_unpaired"
"""The one loss that does not compare an answer with those to other prompts."""


class TokenKTOTrainer(Guarded, KTOTrainer):  # type: ignore[misc]
    """Takes `prompt_ids` and `completion_ids` (int, [tokens] each) and `label` (bool).

    TRL would tokenize prompt and answer as one text; see `training.encoder`.
    """

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset


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


def kto_trainer(
    model: Any,
    reference: Any,
    dataset: Dataset,
    tokenizer: Any,
    arguments: dict[str, Any],
    peft_config: Any,
) -> TokenKTOTrainer:
    """The trainer. `reference` is None with an adapter: the model without it is the reference."""
    return TokenKTOTrainer(
        model=model,
        ref_model=reference,
        args=KTOConfig(**arguments),
        train_dataset=dataset,
        processing_class=tokenizer,
        peft_config=peft_config,
    )
