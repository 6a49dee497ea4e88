"""Align a model with preferences.

in:  {"id": "p", "prompt": "Explain 2 + 2.", "chosen": "2 + 2 = 4.", "rejected": "It is clear."}
out: an adapter directory, or a model directory
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from llm_distill.methods.seeds import derive_seed
from llm_distill.rows.columns import Row
from llm_distill.stage import Context, Model, ModelOutput, Rows, Stage, later_setting
from llm_distill.training.settings import PreferenceSettings, SampledSettings

if TYPE_CHECKING:
    from datasets import Dataset

    from llm_distill.models.sources import ModelSource
    from llm_distill.training.data import Labelled

LossType = Literal[
    "sigmoid",
    "sigmoid_norm",
    "hinge",
    "ipo",
    "robust",
    "exo_pair",
    "nca_pair",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
]

OF_A_PASS = frozenset({"aot", "aot_unpaired", "sft"})
"""Losses that sort the rows of a forward pass, or are a mean over its tokens."""


class TrainDpo(PreferenceSettings, SampledSettings, Stage):
    """Direct preference optimisation (TRL's DPOTrainer, arXiv 2305.18290).

    Equation 7: the mean of -log sigmoid(beta * (log p(chosen) / q(chosen) -
    log p(rejected) / q(rejected))), with p the model, q the reference, given the prompt.
    The reference is the untrained model: with an adapter, the model without it. Prompt and answers
    are text, or turns of a conversation. Pairs with equal or empty sides, and pairs longer than
    max_length or the model's context, are counted and left out.
    """

    trl_config = "DPOConfig"
    without_effect = frozenset({"label_smoothing_factor"})
    output = "model"
    always_seeded = True
    stage: Literal["train_dpo"]
    model: Model = Field(description="the model to align")
    rows: Rows = Field(description="the stage whose pairs are read: prompt, chosen, rejected")
    loss_type: LossType | tuple[LossType, ...] = Field(
        "sigmoid", description="TRL's: sigmoid is DPO's own; several are added up"
    )
    loss_weights: tuple[float, ...] | None = later_setting(
        None, "of several losses, in their order; 1 each unless set"
    )
    beta: float = Field(0.1, gt=0, description="the higher, the closer to the reference")

    @model_validator(mode="after")
    def _a_weight_each(self) -> Self:
        n = len(self._losses())
        if self.loss_weights is not None and len(self.loss_weights) != n:
            raise ValueError(f"loss_weights: {n} wanted, one for each of loss_type")
        if n == 0:
            raise ValueError("loss_type: name at least one")
        return self

    def compares_rows(self) -> bool:
        return bool(OF_A_PASS.intersection(self._losses()))

    def depends_on_processes(self) -> bool:
        return self.compares_rows()

    def _losses(self) -> tuple[LossType, ...]:
        return (self.loss_type,) if isinstance(self.loss_type, str) else self.loss_type

    def trl_settings(self) -> dict[str, Any]:
        weights = self.loss_weights and list(self.loss_weights)
        return {"beta": self.beta, "loss_type": list(self._losses()), "loss_weights": weights}

    def required_columns(self) -> dict[str, set[str]]:
        columns = {"id", "prompt", "chosen", "rejected"}
        needed = dict.fromkeys(self.all_rows(), columns)
        return {name: needed[name] | self.sampled().get(name, set()) for name in needed}

    def run(self, context: Context) -> ModelOutput:
        from llm_distill.training.data import dpo_example, token_dataset
        from llm_distill.training.encoder import pair_encoder
        from llm_distill.training.launch import encoded_once
        from llm_distill.training.train import train_and_save

        source = context.model(self.model)
        encoder = pair_encoder(source, self.max_length, thoughts=self.thoughts)

        def encode(row: Row) -> dict[str, list[int]]:
            return dpo_example(encoder, row)

        def encoded(name: str) -> Dataset:
            of_row = self.with_sample_weight(encode, name)
            return token_dataset(context.rows(name), of_row, context.drop, name)

        dataset = encoded_once(lambda: encoded(self.rows), context.work_dir)
        held_out = self.held_out(encoded, context.work_dir)

        def trainer(model: Any, arguments: dict[str, Any], peft_config: Any) -> Any:
            from llm_distill.training.preferences import preference_trainer

            given = encoder.tokenizer, {**arguments, **self.trl_settings()}, peft_config
            return preference_trainer("dpo", self, source, model, dataset, *given, held_out)

        seed = derive_seed(context.seed, "train_dpo")
        return train_and_save(self, source, dataset, trainer, context, seed, held_out)

    def labelled(self, source: ModelSource) -> Callable[[Row], list[Labelled]]:
        """See `training.data.Labelled`; of each row the chosen and the rejected answer."""
        from llm_distill.training.data import dpo_example, labelled_sft, sft_example
        from llm_distill.training.encoder import pair_encoder

        encoder = pair_encoder(source, self.max_length, thoughts=self.thoughts)

        def of(row: Row) -> list[Labelled]:
            pair = dpo_example(encoder, row)
            sides = (pair[f"{side}_ids"] for side in ("chosen", "rejected"))
            return [labelled_sft(encoder, sft_example(pair["prompt_ids"], side)) for side in sides]

        return of
