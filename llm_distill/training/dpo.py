"""TRL's DPO trainer over pairs that are token ids already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trl import DPOConfig, DPOTrainer

from llm_distill.training.loop import Guarded

if TYPE_CHECKING:
    from datasets import Dataset


class TokenDPOTrainer(Guarded, DPOTrainer):  # type: ignore[misc]
    """Takes `prompt_ids`, `chosen_ids` and `rejected_ids` as they are (int, [tokens] each).

    TRL would tokenize prompt and answer as one text; see `training.encoder`.
    """

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset


def dpo_trainer(
    model: Any,
    reference: Any,
    dataset: Dataset,
    tokenizer: Any,
    arguments: dict[str, Any],
    peft_config: Any,
) -> TokenDPOTrainer:
    """The trainer. `reference` is None with an adapter: the model without it is the reference."""
    return TokenDPOTrainer(
        model=model,
        ref_model=reference,
        args=DPOConfig(**arguments),
        train_dataset=dataset,
        processing_class=tokenizer,
        peft_config=peft_config,
    )
