"""Give a model another tokenizer.

in:  a model, and a model whose tokenizer it gets; or bytes
out: a model directory
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from llm_distill.stage import Context, Model, ModelOutput, Stage


class TransferTokenizer(Stage):
    """Makes a model that reads and writes the tokens of another model's tokenizer, or bytes.

    A new token whose bytes are a token of the model gets that token's embedding; any other the mean
    of those of the model's tokens for its bytes. The layers, the special tokens and the chat
    template stay; the other model's special tokens are left out. Then the model has to be trained:
    with train_distill, and the original model as the teacher.
    """

    output = "model"
    keeps_size = False

    stage: Literal["transfer_tokenizer"]
    model: Model = Field(description="the model that gets another tokenizer")
    tokenizer: Model | None = Field(
        None, description="the model whose tokenizer it gets; its weights are not read"
    )
    to_bytes: bool = Field(
        False, description="in place of `tokenizer`: every byte of UTF-8 is a token"
    )

    @model_validator(mode="after")
    def _check_settings(self) -> Self:
        if (self.tokenizer is not None) == self.to_bytes:
            raise ValueError(
                "give either tokenizer, the model whose tokenizer it gets, or to_bytes: true"
            )
        return self

    def run(self, context: Context) -> ModelOutput:
        from llm_distill.distillation.transfer.tokenizer_transfer import transfer_tokenizer

        source = context.model(self.model)
        target = None if self.tokenizer is None else context.model(self.tokenizer)
        directory = context.work_dir / "model"
        context.metrics.update(transfer_tokenizer(source, target, directory, context.warn))
        return ModelOutput(directory)
