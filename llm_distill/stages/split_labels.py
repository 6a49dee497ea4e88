"""Split each class of a trained classifier into pseudo-subclasses, as targets for a student.

in:  {"id": "n1", "text": "The club won the cup.", "label": "sports"}
out: {"id": "n1", "text": "The club won the cup.", "label": "sports",
      "choices": ["arts/1", "arts/2", "sports/1", "sports/2"],
      "probabilities": [0.02, 0.01, 0.9, 0.07]}
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field

from llm_distill.errors import DataError
from llm_distill.methods.seeds import derive_seed
from llm_distill.models.sources import Device
from llm_distill.rows.columns import Row
from llm_distill.stage import Context, Model, Rows, RowsOutput, Stage, execution_setting


@dataclass(frozen=True)
class _Teacher:
    """What it makes of the rows. is_read: whether a row has a text; the others are of those alone:
    labels, probabilities [n, classes], and embeddings [n, d] without what its logits are made of.
    """

    classes: list[str]
    labels: list[str | None]
    is_read: list[bool]
    probabilities: Any
    embeddings: Any


class SplitLabels(Stage):
    """Gives each text a teacher's probabilities of `parts` pseudo-subclasses of each of its classes
    (LELP): how the teacher tells texts of a class apart, for a student of few classes.

    A class's probability is divided by where the text lies along the main directions of the class's
    embeddings (of these rows) that the teacher's output layer does not read. The student is a
    `train_classifier` with `targets: soft`, asked by `classify` with `merge_at: /`. Rows without a
    label get probabilities, and have no say in the directions.
    """

    needs_weights: ClassVar[bool] = True
    added_columns = ("choices", "probabilities")
    always_seeded = True

    stage: Literal["split_labels"]
    rows: Rows = Field(description="the stage whose rows the student is trained on")
    model: Model = Field(description="a classifier of one label a text, the teacher")
    parts: int = Field(4, ge=2, description="pseudo-subclasses of each class")
    beta: float = Field(
        1.0, gt=0, description="how soft a text's share in them is, in standard deviations"
    )
    by: Literal["embeddings", "random"] = Field(
        "embeddings", description="random: any place along the directions, which is a control"
    )
    text_column: str = Field("text", min_length=1, description="the column with the text")
    label_column: str = Field("label", min_length=1, description="the column with the class")
    max_length: int = Field(512, ge=2, description="longer texts, in tokens, are cut")
    batch_size: int = execution_setting(32, "texts in a forward pass", ge=1)
    device: Device = execution_setting("auto", "auto takes the GPU if there is one")

    def required_columns(self) -> dict[str, set[str]]:
        return {self.rows: {"id", self.text_column, self.label_column}}

    def read_as_text(self) -> dict[str, set[str]]:
        return {self.rows: {self.text_column, self.label_column}}

    def run(self, context: Context) -> RowsOutput:
        return RowsOutput(self._rows(context), self.output_features(context))

    def _rows(self, context: Context) -> Iterator[Row]:
        import numpy as np

        from llm_distill.methods.subclasses import class_split, places, subclass_probabilities

        teacher = self._read(context)
        splits = []
        for name in teacher.classes:
            of_class = teacher.embeddings[[label == name for label in teacher.labels]]
            seed = derive_seed(context.seed, "split_labels", name)
            try:
                splits.append(class_split(of_class, self.parts, seed))
            except ValueError as error:
                raise DataError(
                    f"the class '{name}' has {len(of_class)} texts in '{self.rows}', which cannot "
                    f"be split into {self.parts} parts: {error}; lower parts"
                ) from error
        along = places(teacher.embeddings, splits)
        if self.by == "random":
            seed = derive_seed(context.seed, "split_labels", "random")
            along = np.random.default_rng(seed).standard_normal(along.shape)
        shares = subclass_probabilities(teacher.probabilities, along, self.beta)
        numbers = range(1, self.parts + 1)
        choices = [f"{name}/{part}" for name in teacher.classes for part in numbers]
        found = iter(shares.tolist())
        for row, is_read in zip(context.each_row(self.rows), teacher.is_read, strict=True):
            if is_read:
                yield {**row, "choices": choices, "probabilities": next(found)}
            else:
                context.drop("no text")

    def _read(self, context: Context) -> _Teacher:
        """What the teacher makes of all texts."""
        import numpy as np
        import torch

        from llm_distill.methods.subclasses import unread
        from llm_distill.models.class_embeddings import embedded, output_layer
        from llm_distill.models.sources import choose_device
        from llm_distill.models.text_batches import open_classifier

        device = choose_device(self.device, "device")
        reader = open_classifier(context.model(self.model), self.max_length, device)
        if reader.several:
            raise DataError(
                f"model '{self.model}' gives a text several labels; classes that are split exclude "
                "each other"
            )
        labels: list[str | None] = []
        is_read: list[bool] = []
        probabilities, embeddings = [], []
        total = len(context.rows(self.rows))
        with context.progress(f"read ({self.model})", total) as bar, torch.no_grad():
            rows = context.each_row(self.rows)
            for batch, has_text, inputs in reader.batches(rows, self.text_column, self.batch_size):
                is_read += has_text
                labels += [
                    row[self.label_column] for row, has in zip(batch, has_text, strict=True) if has
                ]
                if inputs is not None:
                    logits, states = embedded(reader.model, inputs)
                    probabilities.append(logits.softmax(-1).cpu().numpy())
                    embeddings.append(states.cpu().numpy())
                bar.advance(len(batch))
        if not labels:
            raise DataError(f"no row of '{self.rows}' has a text")
        projection = unread(output_layer(reader.model).weight.detach().cpu().numpy())
        return _Teacher(
            reader.classes,
            labels,
            is_read,
            np.concatenate(probabilities),
            np.concatenate(embeddings) @ projection,
        )
