"""Align a model with answers that are right or wrong, each by itself.

in:  {"id": "a", "prompt": "2 + 2?", "completion": "2 + 2 = 4.", "is_correct": true}
     or with `pairs` {"id": "a", "prompt": "2 + 2?", "chosen": "2 + 2 = 4.", "rejected": "5"}
out: an adapter directory, or a model directory
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from llm_distill.methods.seeds import derive_seed
from llm_distill.rows.columns import Row
from llm_distill.stage import Context, Model, ModelOutput, Rows, Stage, later_setting
from llm_distill.training.settings import PreferenceSettings

if TYPE_CHECKING:
    from datasets import Dataset

    from llm_distill.models.sources import ModelSource
    from llm_distill.training.data import Labelled
    from llm_distill.training.encoder import PairEncoder


class TrainKto(PreferenceSettings, Stage):
    """Kahneman-Tversky optimisation (TRL's KTOTrainer, arXiv 2402.01306).

    It needs no pairs: `generate` with `verify` gives its rows. With `pairs` the rows of `train_dpo`
    are split, each into an answer that is wanted and one that is not, as TRL splits them. Prompt
    and completion are text, or both turns of a conversation. The reference is the untrained model:
    with an adapter, the model without it. Rows without a label are counted and left out.
    """

    trl_config = "KTOConfig"
    without_effect = frozenset({"label_smoothing_factor", "train_sampling_strategy"})
    output = "model"

    always_seeded = True
    stage: Literal["train_kto"]
    model: Model = Field(description="the model to align")
    rows: Rows = Field(description="the stage whose rows are read: prompt, completion, a label")
    label_column: str = Field("is_correct", description="whether an answer is wanted, as a bool")
    pairs: bool = later_setting(
        False, "rows are pairs: `chosen` is wanted, `rejected` is not; no label is read"
    )
    loss_type: Literal["kto", "apo_zero_unpaired"] = Field("kto", description="TRL's")
    beta: float = Field(0.1, gt=0, description="the higher, the closer to the reference")
    desirable_weight: float = Field(1.0, gt=0, description="of the loss of wanted answers")
    undesirable_weight: float = Field(1.0, gt=0, description="of the loss of the others")
    per_device_train_batch_size: int = Field(
        8, ge=2, description="rows in a forward pass; the answers of others estimate the KL term"
    )

    @model_validator(mode="after")
    def _labels_or_pairs(self) -> Self:
        if self.pairs and "label_column" in self.model_fields_set:
            raise ValueError("label_column: with pairs no label is read; leave one of them out")
        return self

    def compares_rows(self) -> bool:
        return True  # the KL term is a mean over a pass

    def trl_settings(self) -> dict[str, Any]:
        own = ("loss_type", "beta", "desirable_weight", "undesirable_weight")
        return {name: getattr(self, name) for name in own}

    def required_columns(self) -> dict[str, set[str]]:
        read = {"chosen", "rejected"} if self.pairs else {"completion", self.label_column}
        columns = {"id", "prompt", *read}
        return dict.fromkeys(self.all_rows(), columns)

    def run(self, context: Context) -> ModelOutput:
        from llm_distill.training.data import token_dataset
        from llm_distill.training.encoder import pair_encoder
        from llm_distill.training.launch import encoded_once
        from llm_distill.training.preferences import kto_dataset, preference_trainer
        from llm_distill.training.train import train_and_save

        source = context.model(self.model)
        encoder = pair_encoder(source, self.max_length, thoughts=self.thoughts)

        def encode(row: Row) -> list[dict[str, Any]]:
            return self._examples(encoder, row)

        seed = derive_seed(context.seed, "train_kto")

        def encoded(name: str) -> Dataset:
            tokens = token_dataset(context.rows(name), encode, context.drop, name)
            return kto_dataset(tokens, self.step_rows().in_pass, self.loss_type, seed)

        dataset = encoded_once(lambda: encoded(self.rows), context.work_dir)
        held_out = self.held_out(encoded, context.work_dir)

        def trainer(model: Any, arguments: dict[str, Any], peft_config: Any) -> Any:
            given = encoder.tokenizer, {**arguments, **self.trl_settings()}, peft_config
            return preference_trainer("kto", self, source, model, dataset, *given, held_out)

        return train_and_save(self, source, dataset, trainer, context, seed, held_out)

    def labelled(self, source: ModelSource) -> Callable[[Row], list[Labelled]]:
        """See `training.data.Labelled`."""
        from llm_distill.training.data import labelled_sft, sft_example
        from llm_distill.training.encoder import pair_encoder

        encoder = pair_encoder(source, self.max_length, thoughts=self.thoughts)

        def of(row: Row) -> list[Labelled]:
            found = self._examples(encoder, row)
            examples = (sft_example(each["prompt_ids"], each["completion_ids"]) for each in found)
            return [labelled_sft(encoder, example) for example in examples]

        return of

    def _examples(self, encoder: PairEncoder, row: Row) -> list[dict[str, Any]]:
        from llm_distill.training.data import kto_example, kto_examples

        if self.pairs:
            return kto_examples(encoder, row)
        return [kto_example(encoder, row, self.label_column)]
