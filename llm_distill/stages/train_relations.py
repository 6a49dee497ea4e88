"""Train a student on the relations between tokens inside a layer of its teacher.

in:  {"id": "n1", "text": "The club won the cup."}
out: a model directory: of a decoder with its output layer, of an encoder without any head
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from llm_distill.distillation.relations.settings import RelationSettings
from llm_distill.errors import ConfigError
from llm_distill.methods.seeds import derive_seed
from llm_distill.rows.columns import Row
from llm_distill.rows.unusable import UnusableRowError
from llm_distill.stage import Context, Model, ModelOutput, Rows, Stage, execution_setting


class TrainRelations(RelationSettings, Stage):
    """MiniLM (2002.10957) and MiniLMv2 (2012.15828): the student learns how alike the tokens of a
    text are in a layer of the teacher, by its queries, keys and values, and no labels.

    The widths of the models may differ. Both are encoders or both decoders, with one tokenizer.
    Nothing after the projections of `student_layer` is trained: not the rest of this layer, the
    layers after it, the final norm, nor a head. So train the result on a task afterwards
    (train_classifier; train_sft or train_distill). In the history each relation is the mean KL of a
    token's row, in nats.
    """

    output = "model"
    always_seeded = True
    without_effect = frozenset({"activation_offloading", "loss_type", "pad_to_multiple_of"})

    stage: Literal["train_relations"]
    model: Model = Field(description="the student to start from, such as make_student gives")
    teacher: Model = Field(description="the model whose relations it learns")
    rows: Rows = Field(description="the stage whose rows have the texts")
    text_column: str = Field("text", min_length=1, description="the column with the text")
    max_length: int = Field(512, ge=2, description="longer texts, in tokens, are cut")
    on_collapse: Literal["stop", "warn", "ignore"] = execution_setting(
        "ignore", "nothing that writes is trained, so it is not asked before and after"
    )

    @model_validator(mode="after")
    def _is_not_asked(self) -> Self:
        if self.on_collapse != "ignore":
            raise ValueError("on_collapse: nothing that writes is trained; leave it out")
        return self

    def required_columns(self) -> dict[str, set[str]]:
        return {name: {"id", self.text_column} for name in self.all_rows()}

    def read_as_text(self) -> dict[str, set[str]]:
        return {name: {self.text_column} for name in self.all_rows()}

    def run(self, context: Context) -> ModelOutput:
        from llm_distill.distillation.alignment.vocabularies import difference
        from llm_distill.distillation.relations.train import train_and_save_relations
        from llm_distill.models.classifiers import classifier_tokenizer, most_tokens
        from llm_distill.training.data import token_dataset
        from llm_distill.training.launch import encoded_once

        source, teacher = context.model(self.model), context.model(self.teacher)
        tokenizer, other = classifier_tokenizer(source), classifier_tokenizer(teacher)
        how = difference(other, tokenizer)
        if how is not None:
            raise ConfigError(
                "relations are compared token by token, and the tokenizers of "
                f"'{self.teacher}' and '{self.model}' differ: {how}; take a student with the "
                "teacher's tokenizer (make_student)"
            )
        sides = ((source, tokenizer), (teacher, other))
        encode = partial(
            self._example, tokenizer, min(most_tokens(*side, self.max_length) for side in sides)
        )

        def encoded(name: str) -> Any:
            return token_dataset(context.each_row(name), encode, context.drop, name)

        dataset = encoded_once(lambda: encoded(self.rows), context.work_dir)
        held_out = self.held_out(encoded, context.work_dir)
        seed = derive_seed(context.seed, "train_relations")
        return train_and_save_relations(
            self, source, teacher, dataset, held_out, tokenizer, context, seed
        )

    def _example(self, tokenizer: Any, most: int, row: Row) -> dict[str, Any]:
        from llm_distill.models.text_batches import text_ids

        ids = text_ids(tokenizer, most, row[self.text_column])
        if not ids:
            raise UnusableRowError("no text")
        if len(ids) < 2:
            raise UnusableRowError("one token, which has no relation to another")
        return {"input_ids": ids}
