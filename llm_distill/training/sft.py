"""TRL's SFT trainer over rows that are token ids already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trl import SFTConfig, SFTTrainer

from llm_distill.training.loop import Guarded

if TYPE_CHECKING:
    from datasets import Dataset


class TokenSFTTrainer(Guarded, SFTTrainer):  # type: ignore[misc]
    """Takes `input_ids` and `labels` as they are (int, [tokens] each)."""


def sft_trainer(
    model: Any, dataset: Dataset, tokenizer: Any, arguments: dict[str, Any], peft_config: Any
) -> TokenSFTTrainer:
    """The trainer; its loss is the mean over all labelled tokens of an optimizer step."""
    return TokenSFTTrainer(
        model=model,
        args=SFTConfig(**arguments, dataset_kwargs={"skip_prepare_dataset": True}),
        train_dataset=dataset,
        processing_class=tokenizer,
        peft_config=peft_config,
    )
