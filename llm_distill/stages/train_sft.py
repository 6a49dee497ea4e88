"""Fine-tune a model on rows.

in:  {"id": "a", "prompt": "What is 2 + 2?", "completion": "2 + 2 = 4. <ans>4</ans>"}, or
     {"id": "a", "messages": [{"role": "user", "content": "2 + 2?"},
                              {"role": "assistant", "content": "4"}]}
out: a model directory, or an adapter directory
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from llm_distill.distillation.rows import AnsweredRow
from llm_distill.methods.seeds import derive_seed
from llm_distill.rows.columns import Row
from llm_distill.stage import (
    Columns,
    Context,
    Model,
    ModelOutput,
    Rows,
    Stage,
    execution_setting,
    later_setting,
)
from llm_distill.training.settings import SampledSettings

if TYPE_CHECKING:
    from datasets import Dataset

    from llm_distill.models.sources import ModelSource
    from llm_distill.training.data import Labelled
    from llm_distill.training.encoder import PairEncoder


class TrainSft(SampledSettings, AnsweredRow, Stage):
    """Supervised fine-tuning (TRL's SFTTrainer), with the loss on what the assistant says only.

    A row is a prompt with a completion, or a conversation. The prompt is a column (text or turns),
    or a template over the row's columns. Rows without a prompt or a completion, and rows longer
    than max_length or the model's context, are counted and left out; with a `weight_column`, so are
    rows whose weight is not a number above 0. So is a row of which the chat template or the
    tokenizer would change what is trained, and if that is more than a tenth, nothing is trained.
    """

    output = "model"

    always_seeded = True
    reads_conversations = True
    stage: Literal["train_sft"]
    model: Model = Field(description="the model to start from")
    rows: Rows = Field(description="the stage whose rows it is trained on")
    weight_column: str | None = Field(
        None, description="how much a row counts in the loss, as if it were repeated as often"
    )
    packing: bool = later_setting(
        False,
        "rows in packs of at most max_length tokens, which are what batch sizes count then",
    )
    padding_free: bool = execution_setting(
        False,
        "the rows of a forward pass in one sequence, without padding: the same steps in less time",
    )
    if_no_rows: Literal["fail", "keep_model"] = Field(
        "fail", description="keep_model: without rows the model is passed on as it is"
    )

    @model_validator(mode="after")
    def _weights_go_with_the_plain_loss(self) -> Self:
        other = {"loss_type", "label_smoothing_factor"} & self.trainer_arguments.keys()
        if self.weight_column is not None and other:
            raise ValueError(
                f"trainer_arguments: {', '.join(sorted(other))} does not go with weight_column, "
                "which weighs the plain cross entropy"
            )
        if self.packing:
            for name in ("weight_column", "sample_weight_column"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"packing: a pack has no weight of its own, so it does not go with {name}; "
                        "padding_free does"
                    )
        return self

    def required_columns(self) -> dict[str, set[str]]:
        columns = {"id", *self.text_columns(), *filter(None, [self.weight_column])}
        needed = dict.fromkeys(self.all_rows(), columns)
        return {name: needed[name] | self.sampled().get(name, set()) for name in needed}

    def read_as_text(self) -> dict[str, set[str]]:
        if self.messages_column is not None:
            return {}
        return {name: self.text_columns() for name in self.all_rows()}

    def may_be_empty(self) -> set[str]:
        return {self.rows} if self.if_no_rows == "keep_model" else set()

    def template_variables(self, inputs: Mapping[str, Columns]) -> dict[str, Columns]:
        return self.offered(inputs[self.rows])

    def run(self, context: Context) -> ModelOutput:
        from llm_distill.models.sources import context_length
        from llm_distill.training.data import checked_weight, sft_examples, token_dataset
        from llm_distill.training.launch import encoded_once
        from llm_distill.training.train import save_untrained, train_and_save

        source = context.model(self.model)
        seed = derive_seed(context.seed, "train_sft")
        if self.if_no_rows == "keep_model" and not len(context.rows(self.rows)):
            context.warn(f"'{self.rows}' has no rows: model '{self.model}' is passed on untrained")
            return save_untrained(self, source, context, seed)
        encoder = self._encoder(source)
        turns = self.encoded(encoder)

        def encode(row: Row) -> list[dict[str, Any]]:
            examples = sft_examples(turns(row))
            if self.weight_column is None:
                return examples
            weight = checked_weight(row[self.weight_column])
            return [{**example, "weight": weight} for example in examples]

        def encoded(name: str) -> Dataset:
            of_row = self.with_sample_weight(encode, name)
            tokens = token_dataset(context.rows(name), of_row, context.drop, name)
            if not self.packing:
                return tokens
            from llm_distill.training.packing import packed

            return packed(tokens, min(self.max_length, context_length(source)))

        dataset = encoded_once(lambda: encoded(self.rows), context.work_dir)
        held_out = self.held_out(encoded, context.work_dir)
        dense = self.padding_free or self.packing

        def trainer(model: Any, arguments: dict[str, Any], peft_config: Any) -> Any:
            from llm_distill.training.sft import sft_trainer

            given = dataset, encoder.tokenizer, arguments, peft_config
            return sft_trainer(model, *given, padding_free=dense, held_out=held_out)

        return train_and_save(self, source, dataset, trainer, context, seed, held_out)

    def labelled(self, source: ModelSource) -> Callable[[Row], list[Labelled]]:
        """See `training.data.Labelled`."""
        from llm_distill.training.data import labelled_sft, sft_examples

        encoder = self._encoder(source)
        turns = self.encoded(encoder)
        return lambda row: [labelled_sft(encoder, e) for e in sft_examples(turns(row))]

    def _encoder(self, source: ModelSource) -> PairEncoder:
        from llm_distill.training.encoder import pair_encoder

        turns = {"answers": self.answers, "thoughts": self.thoughts}
        return pair_encoder(source, self.max_length, **turns)
