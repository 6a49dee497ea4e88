"""Align a model with answers that are right or wrong, each by itself.

in:  {"id": "a", "prompt": "2 + 2?", "completion": "2 + 2 = 4.", "is_correct": true}
out: an adapter directory, or a model directory
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from llm_distill.methods.seeds import derive_seed
from llm_distill.rows.columns import Row
from llm_distill.stage import Context, Model, ModelOutput, Rows, Stage
from llm_distill.training.settings import PreferenceSettings

if TYPE_CHECKING:
    from datasets import Dataset

    from llm_distill.models.sources import ModelSource
    from llm_distill.training.data import Labelled


class TrainKto(PreferenceSettings, Stage):
    """Kahneman-Tversky optimisation (TRL's KTOTrainer, arXiv 2402.01306).

    It needs no pairs: `generate` with `verify` gives its rows. Prompt and completion are text, or
    both turns of a conversation. The reference is the untrained model: with an adapter, the model
    without it. Rows without a label are counted and left out.
    """

    trl_config = "KTOConfig"
    without_effect = frozenset({"label_smoothing_factor", "train_sampling_strategy"})
    output = "model"

    always_seeded = True
    stage: Literal["train_kto"]
    model: Model = Field(description="the model to align")
    rows: Rows = Field(description="the stage whose rows are read: prompt, completion, a label")
    label_column: str = Field("is_correct", description="whether an answer is wanted, as a bool")
    loss_type: Literal["kto", "apo_zero_unpaired"] = Field("kto", description="TRL's")
    beta: float = Field(0.1, gt=0, description="the higher, the closer to the reference")
    desirable_weight: float = Field(1.0, gt=0, description="of the loss of wanted answers")
    undesirable_weight: float = Field(1.0, gt=0, description="of the loss of the others")
    per_device_train_batch_size: int = Field(
        8, ge=2, description="rows in a forward pass; the answers of others estimate the KL term"
    )

    def compares_rows(self) -> bool:
        return True  # the KL term is a mean over a pass

    def trl_settings(self) -> dict[str, Any]:
        own = ("loss_type", "beta", "desirable_weight", "undesirable_weight")
        return {name: getattr(self, name) for name in own}

    def required_columns(self) -> dict[str, set[str]]:
        columns = {"id", "prompt", "completion", self.label_column}
        return dict.fromkeys(self.all_rows(), columns)

    def run(self, context: Context) -> ModelOutput:
        from llm_distill.training.data import kto_example, token_dataset
        from llm_distill.training.encoder import pair_encoder
        from llm_distill.training.launch import encoded_once
        from llm_distill.training.preferences import kto_dataset, preference_trainer
        from llm_distill.training.train import train_and_save

        source = context.model(self.model)
        encoder = pair_encoder(source, self.max_length, thoughts=self.thoughts)

        def encode(row: Row) -> dict[str, Any]:
            return kto_example(encoder, row, self.label_column)

        seed = derive_seed(context.seed, "train_kto")

        def encoded(name: str) -> Dataset:
            tokens = token_dataset(context.rows(name), encode, context.drop, name)
            return kto_dataset(tokens, self.step_rows().in_pass, self.loss_type, seed)

        dataset = encoded_once(lambda: encoded(self.rows), context.work_dir)
        held_out = self.held_out(encoded, context.work_dir)

        def trainer(model: Any, arguments: dict[str, Any], peft_config: Any) -> Any:
            given = encoder.tokenizer, {**arguments, **self.trl_settings()}, peft_config
            return preference_trainer("kto", self, source, model, dataset, *given, held_out)

        return train_and_save(self, source, dataset, trainer, context, seed)

    def labelled(self, source: ModelSource) -> Callable[[Row], list[Labelled]]:
        """See `training.data.Labelled`."""
        from llm_distill.training.data import kto_example, labelled_sft, sft_example
        from llm_distill.training.encoder import pair_encoder

        encoder = pair_encoder(source, self.max_length, thoughts=self.thoughts)

        def of(row: Row) -> list[Labelled]:
            found = kto_example(encoder, row, self.label_column)
            example = sft_example(found["prompt_ids"], found["completion_ids"])
            return [labelled_sft(encoder, example)]

        return of
