"""Make a smaller model of another: from some of its layers, or with weights drawn anew.

in:  a model
out: a model directory, with the same tokenizer
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from llm_distill.methods.seeds import derive_seed
from llm_distill.stage import Context, Model, ModelOutput, Stage


class MakeStudent(Stage):
    """A student to start from, without any training.

    `layers` copies these layers and all that lies before and after them, as DistilBERT begins with
    every second layer of its teacher (1910.01108). `config` draws all weights anew, as MiniLM's
    students begin, and may change the size. A classifier's head is not kept.
    """

    output = "model"
    keeps_size: ClassVar[bool] = False

    stage: Literal["make_student"]
    model: Model = Field(description="the model that it is made of, such as its teacher")
    layers: tuple[PositiveInt, ...] | None = Field(
        None, min_length=1, description="the layers to keep, from 1 at the input: [2, 4, 6]"
    )
    config: dict[str, bool | int | float | str] | None = Field(
        None,
        description="instead: random weights, and fields of its config that are to be another's, "
        "such as {num_hidden_layers: 6, hidden_size: 384}; {}: the size stays",
    )

    @model_validator(mode="after")
    def _one_says_what_to_make(self) -> Self:
        if (self.layers is None) == (self.config is None):
            raise ValueError(
                "give either layers, to copy them ([2, 4, 6]), or config, to draw all weights anew "
                "({num_hidden_layers: 6}; {} keeps the size)"
            )
        return self

    def is_seeded(self) -> bool:
        return self.config is not None

    def run(self, context: Context) -> ModelOutput:
        import copy

        from transformers import set_seed

        from llm_distill.models.backbones import chosen_layers, drawn_anew, load_whole, writes
        from llm_distill.training.weights import Start, save_encoder, save_full

        source = context.model(self.model)
        whole = load_whole(source)
        if self.layers is not None:
            made = chosen_layers(whole, self.layers, source.name)
        else:
            set_seed(derive_seed(context.seed, "make_student"))
            made = drawn_anew(whole, self.config or {}, source.name)
        parameters = sum(p.numel() for p in made.parameters())
        context.metrics.update(
            parameters=parameters, parameters_before=sum(p.numel() for p in whole.parameters())
        )
        directory = context.work_dir / "model"
        if writes(source):
            start = Start(made, copy.deepcopy(made.config), whole.generation_config)
            save_full(start, source, directory)
        else:
            save_encoder(made, source, directory)
        return ModelOutput(directory)
