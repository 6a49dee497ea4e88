"""Have a trained classifier give texts labels.

in:  {"id": "n1", "text": "The club won the cup."}
out: {"id": "n1", "text": "The club won the cup.", "label": "sports", "confidence": 0.97,
      "choices": ["arts", "sports"], "probabilities": [0.03, 0.97], "error": null}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any, ClassVar, Literal

from pydantic import Field

from llm_distill.errors import DataError
from llm_distill.evaluation.label_figures import label_shares
from llm_distill.evaluation.results import shown
from llm_distill.methods.labels import likeliest
from llm_distill.models.sources import Device
from llm_distill.rows.columns import Row
from llm_distill.stage import Context, Model, Rows, RowsOutput, Stage, execution_setting


class Classify(Stage):
    """Gives each text the class that a classifier takes to be likeliest, with all probabilities.

    A text without a token is passed on with a null label and an `error`, and counted. Texts are cut
    after `max_length` tokens, or where the model's context ends.
    """

    needs_weights: ClassVar[bool] = True
    added_columns = ("label", "confidence", "choices", "probabilities", "error")

    stage: Literal["classify"]
    rows: Rows = Field(description="the stage whose rows have the texts")
    model: Model = Field(description="a classifier, such as train_classifier gives")
    text_column: str = Field("text", min_length=1, description="the column with the text")
    max_length: int = Field(512, ge=2, description="longer texts, in tokens, are cut")
    batch_size: int = execution_setting(32, "texts in a forward pass", ge=1)
    device: Device = execution_setting("auto", "auto takes the GPU if there is one")

    def required_columns(self) -> dict[str, set[str]]:
        return {self.rows: {"id", self.text_column}}

    def read_as_text(self) -> dict[str, set[str]]:
        return {self.rows: {self.text_column}}

    def run(self, context: Context) -> RowsOutput:
        return RowsOutput(self._rows(context), self.output_features(context))

    def _rows(self, context: Context) -> Iterator[Row]:
        import torch

        from llm_distill.models.classifiers import (
            class_names,
            classifier_tokenizer,
            load_classifier,
            most_tokens,
        )
        from llm_distill.models.sources import choose_device
        from llm_distill.training.classifier import collate

        source = context.model(self.model)
        tokenizer = classifier_tokenizer(source)
        most = most_tokens(source, tokenizer, self.max_length)
        model = load_classifier(source, device=choose_device(self.device, "device")).eval()
        names = class_names(model.config)
        counts: Counter[str] = Counter()
        total = len(context.rows(self.rows))
        with context.progress(f"classify ({self.model})", total) as bar, torch.no_grad():
            left = context.each_row(self.rows)
            while rows := list(islice(left, self.batch_size)):
                found = [self._ids(tokenizer, most, row) for row in rows]
                read = [{"input_ids": ids} for ids in found if ids]
                if read:
                    batch = collate(read, tokenizer.pad_token_id)
                    inputs = {name: value.to(model.device) for name, value in batch.items()}
                    probabilities = model(**inputs).logits.float().softmax(-1).tolist()
                said = iter(probabilities if read else [])
                for row, ids in zip(rows, found, strict=True):
                    yield {**row, **self._told(names, next(said) if ids else None, counts)}
                bar.advance(len(rows))
        if total and not counts:
            raise DataError(f"no row of '{self.rows}' has a text to classify")
        self._tell(context, names, counts)

    def _ids(self, tokenizer: Any, most: int, row: Row) -> list[int]:
        text = row[self.text_column]
        if not text or not text.strip():
            return []
        ids: list[int] = tokenizer(text, truncation=True, max_length=most)["input_ids"]
        return ids

    def _told(self, names: list[str], said: list[float] | None, counts: Counter[str]) -> Row:
        if said is None:
            return {**dict.fromkeys(self.added_columns), "error": "no text"}
        label, sure = likeliest(said, names)
        counts[label] += 1
        told = {"label": label, "confidence": sure, "choices": names, "probabilities": said}
        return {**told, "error": None}

    def _tell(self, context: Context, names: list[str], counts: Counter[str]) -> None:
        total = len(context.rows(self.rows))
        context.metrics.update(labels=dict(counts.most_common()), unread=total - counts.total())
        if total:
            context.metrics.update(shown(label_shares(counts, names, total)))
