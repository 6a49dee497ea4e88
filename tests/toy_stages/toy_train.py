"""Rows in, a "model" out: a directory with one file."""

from __future__ import annotations

from typing import Literal

from llm_distill.stage import Context, Model, ModelOutput, Rows, Stage


class ToyTrain(Stage):
    """Writes the number of rows where a trainer would write weights."""

    output = "model"

    stage: Literal["toy_train"]
    model: Model
    rows: Rows

    def required_columns(self) -> dict[str, set[str]]:
        return {self.rows: {"question"}}

    def run(self, context: Context) -> ModelOutput:
        directory = context.work_dir / "model"
        directory.mkdir()
        (directory / "config.json").write_text("{}")
        (directory / "model.safetensors").write_text(str(len(context.rows(self.rows))))
        return ModelOutput(directory)
