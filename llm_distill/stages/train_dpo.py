"""Align a model with preferences.

in:  {"id": "p", "prompt": "Explain 2 + 2.", "chosen": "2 + 2 = 4.", "rejected": "It is clear."}
out: an adapter directory, or a model directory
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from llm_distill.methods.seeds import derive_seed
from llm_distill.rows.columns import Row
from llm_distill.stage import Context, Model, ModelOutput, Rows, Stage
from llm_distill.training.settings import LoraSettings, TrainingSettings


class TrainDpo(TrainingSettings, Stage):
    """Direct preference optimisation (TRL's DPOTrainer, arXiv 2305.18290).

    Equation 7: the mean of -log sigmoid(beta * (log p(chosen) / q(chosen) -
    log p(rejected) / q(rejected))), with p the model, q the reference, given the prompt.
    The reference is the untrained model: with an adapter, the model without it. Pairs with equal or
    empty sides, and pairs longer than max_length or the model's context, are counted and left out.
    """

    output = "model"
    version: ClassVar[int] = 2
    former_settings: ClassVar[Mapping[str, Any]] = {"loss_type": "sigmoid"}

    always_seeded = True
    stage: Literal["train_dpo"]
    model: Model = Field(description="the model to align")
    rows: Rows = Field(description="the stage whose pairs are read: prompt, chosen, rejected")
    beta: float = Field(0.1, gt=0, description="the higher, the closer to the reference")
    peft: LoraSettings | None = Field(
        LoraSettings(), description="train a LoRA adapter; null trains all, with two models"
    )
    learning_rate: float = Field(
        1e-5, gt=0, description="the peak; 1e-6 is usual if all weights are trained"
    )

    def required_columns(self) -> dict[str, set[str]]:
        return {self.rows: {"id", "prompt", "chosen", "rejected"}}

    def run(self, context: Context) -> ModelOutput:
        from llm_distill.training.data import dpo_example, pair_encoder, token_dataset
        from llm_distill.training.train import train_and_save

        source = context.model(self.model)
        encoder = pair_encoder(source, self.max_length)

        def encode(row: Row) -> dict[str, list[int]]:
            return dpo_example(encoder, row)

        dataset = token_dataset(context.rows(self.rows), encode, context.drop, self.rows)

        def trainer(model: Any, arguments: dict[str, Any], peft_config: Any) -> Any:
            from llm_distill.training.dpo import dpo_trainer

            # TRL turns all dropout off by default, an adapter's too.
            keeps_dropout = self.peft is not None and self.peft.lora_dropout > 0
            preference = {"beta": self.beta, "disable_dropout": not keeps_dropout}
            return dpo_trainer(
                model,
                self._reference(source),
                dataset,
                encoder.tokenizer,
                {**arguments, **preference},
                peft_config,
            )

        seed = derive_seed(context.seed, "train_dpo")
        return train_and_save(self, source, dataset, trainer, context, seed)

    def _reference(self, source: Any) -> Any:
        """A second copy, with the source's adapters merged as TRL's would not be."""
        from llm_distill.models.sources import load_model
        from llm_distill.training.weights import name_soft_cap, training_source

        if self.peft is not None:
            return None
        model = load_model(training_source(source, full=True))
        name_soft_cap(model)
        return model
