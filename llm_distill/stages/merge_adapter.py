"""Merge an adapter into its base.

in:  an adapter directory, such as train_sft gives
out: a model directory
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llm_distill.stage import Context, Model, ModelOutput, Stage


class MergeAdapter(Stage):
    """Merges an adapter into its base; the resulting model loads without PEFT.

    In float32 it answers as the adapter does on float32 weights. Half precision takes half the
    space and rounds: most of a small update, as after a short training, is lost.
    """

    output = "model"

    stage: Literal["merge_adapter"]
    model: Model = Field(description="the stage that trained the adapter")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="precision of the merged weights"
    )

    def run(self, context: Context) -> ModelOutput:
        from llm_distill.training.merge import merge_adapters

        directory = context.work_dir / "model"
        merge_adapters(context.model(self.model), directory, self.dtype)
        return ModelOutput(directory)
