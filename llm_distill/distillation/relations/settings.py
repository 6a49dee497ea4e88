"""What a training on relations is told: which relations, of which layers, in how many heads."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from llm_distill.distillation.relations.losses import Heads, RelationWeights
from llm_distill.training.settings import HeldOutSettings


class RelationSettings(HeldOutSettings):
    """Of `train_relations`."""

    losses: RelationWeights = Field(
        RelationWeights(query_relation=1.0, key_relation=1.0, value_relation=1.0),
        description="the relations and their weights. MiniLMv2: query_relation, key_relation, "
        "value_relation; MiniLM: attention_relation, value_relation",
    )
    teacher_layer: int = Field(
        -1, description="the teacher's, from 1 at the input, or from -1 at its end"
    )
    student_layer: int = Field(-1, description="the student's, likewise")
    relation_heads: Heads = Field(
        None,
        description="heads that query, key and value relations are split into anew, such as 48, or "
        "{query: 48, key: 16, value: 16}; null: as many as the teacher's projection has",
    )

    @model_validator(mode="after")
    def _can_be_trained(self) -> Self:
        for name in ("teacher_layer", "student_layer"):
            if getattr(self, name) == 0:
                raise ValueError(
                    f"{name}: there is no layer 0; 1 is the first after the embeddings, -1 the last"
                )
        if self.peft is not None or self.quantization is not None:
            name = "quantization" if self.peft is None else "peft"
            raise ValueError(f"{name}: relations train a whole model; leave it out")
        if self.launch.is_sharded():
            raise ValueError(
                "launch.strategy: which weights the relations reach is found on a whole model; "
                "take ddp"
            )
        return self
