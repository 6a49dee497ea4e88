"""Have a trained classifier give texts labels.

in:  {"id": "n1", "text": "The club won the cup."}
out: {"id": "n1", "text": "The club won the cup.", "label": "sports", "confidence": 0.97,
      "choices": ["arts", "sports"], "probabilities": [0.03, 0.97], "error": null},
     or with `several: true` "labels": ["sports"] in place of "label"
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from llm_distill.errors import DataError
from llm_distill.evaluation.label_figures import label_shares
from llm_distill.evaluation.results import shown
from llm_distill.methods.labels import above, least_sure, likeliest, merged
from llm_distill.models.sources import Device
from llm_distill.rows.columns import Row, features
from llm_distill.stage import (
    Columns,
    Context,
    Model,
    Rows,
    RowsOutput,
    Stage,
    execution_setting,
    later_setting,
)

MANY = 20
"""Texts that are hardly all of one class by chance."""


class Classify(Stage):
    """Gives each text the class that a classifier takes to be likeliest, with all probabilities.

    With `several`, for a classifier that was trained so, it gives all classes whose probability is
    above a threshold, or none; the probabilities need not add up to 1 then. With `merge_at: /` the
    classes `arts/1` and `arts/2` are one, `arts`, whose probability is their sum.
    A text without a token is passed on with a null label and an `error`, and counted. Texts are cut
    after `max_length` tokens, or where the model's context ends.
    """

    needs_weights: ClassVar[bool] = True
    stage: Literal["classify"]
    rows: Rows = Field(description="the stage whose rows have the texts")
    model: Model = Field(description="a classifier, such as train_classifier gives")
    text_column: str = Field("text", min_length=1, description="the column with the text")
    max_length: int = Field(512, ge=2, description="longer texts, in tokens, are cut")
    several: bool = later_setting(False, "the classifier gives a text several labels, or none")
    threshold: float = later_setting(
        0.5, "with several: the labels that are given are likelier than this", gt=0, lt=1
    )
    merge_at: str | None = later_setting(
        None,
        "classes whose names are the same up to the last such mark count as one, as those of "
        "split_labels",
        min_length=1,
    )
    batch_size: int = execution_setting(32, "texts in a forward pass", ge=1)
    device: Device = execution_setting("auto", "auto takes the GPU if there is one")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not self.several and self.threshold != 0.5:
            raise ValueError("threshold: of one label a text the likeliest is given; set several")
        if self.several and self.merge_at is not None:
            raise ValueError("merge_at adds up classes that exclude each other; leave several out")
        return self

    def _added(self) -> list[str]:
        label = "labels" if self.several else "label"
        return [label, "confidence", "choices", "probabilities", "error"]

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        columns = inputs[self.rows]
        return None if columns is None else columns.union(self._added())

    def most_rows(self, rows: Mapping[str, int | None]) -> int | None:
        return rows[self.rows]

    def required_columns(self) -> dict[str, set[str]]:
        return {self.rows: {"id", self.text_column}}

    def read_as_text(self) -> dict[str, set[str]]:
        return {self.rows: {self.text_column}}

    def run(self, context: Context) -> RowsOutput:
        like = context.rows(self.rows).features
        return RowsOutput(self._rows(context), features(self._added(), like=like))

    def _rows(self, context: Context) -> Iterator[Row]:
        import torch

        from llm_distill.models.sources import choose_device
        from llm_distill.models.text_batches import open_classifier

        device = choose_device(self.device, "device")
        reader = open_classifier(context.model(self.model), self.max_length, device)
        if reader.several != self.several:
            how = "several labels" if reader.several else "one label"
            raise DataError(
                f"model '{self.model}' was trained to give a text {how}; set several: "
                f"{str(not self.several).lower()}"
            )
        names = reader.classes
        if self.merge_at is not None and not any(self.merge_at in name for name in names):
            raise DataError(
                f"merge_at: no class of model '{self.model}' has {self.merge_at!r} in its name; "
                f"they are {', '.join(names[:8])}"
            )
        counts: Counter[str] = Counter()
        unread = 0
        total = len(context.rows(self.rows))
        with context.progress(f"classify ({self.model})", total) as bar, torch.no_grad():
            rows = context.each_row(self.rows)
            for batch, has_text, inputs in reader.batches(rows, self.text_column, self.batch_size):
                said: Iterator[list[float]] = iter(())
                if inputs is not None:
                    logits = reader.model(**inputs).logits.float()
                    found = logits.sigmoid() if self.several else logits.softmax(-1)
                    said = iter(found.tolist())
                for row, has in zip(batch, has_text, strict=True):
                    yield {**row, **self._told(names, next(said) if has else None, counts)}
                    unread += not has
                bar.advance(len(batch))
        if len(counts) == 1 and total - unread >= MANY:
            context.warn(
                f"all {total - unread:,} texts got the label '{next(iter(counts))}': has the model "
                "learned anything, and are these texts like those that it learned from?"
            )
        if total and unread == total:
            raise DataError(f"no row of '{self.rows}' has a text to classify")
        context.metrics.update(labels=dict(counts.most_common()), unread=unread)
        if total:
            whole = (
                names
                if self.merge_at is None
                else merged([0.0] * len(names), names, self.merge_at)[0]
            )
            context.metrics.update(shown(label_shares(counts, whole, total)))

    def _told(self, names: list[str], said: list[float] | None, counts: Counter[str]) -> Row:
        if said is None:
            return {**dict.fromkeys(self._added()), "error": "no text"}
        if self.merge_at is not None:
            names, said = merged(said, names, self.merge_at)
        given: Row
        if self.several:
            labels = above(self.threshold, said, names)
            given = {"labels": labels, "confidence": least_sure(said)}
        else:
            label, sure = likeliest(said, names)
            labels = [label]
            given = {"label": label, "confidence": sure}
        counts.update(labels)
        return {**given, "choices": names, "probabilities": said, "error": None}
