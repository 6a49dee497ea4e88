"""Texts as a model that does not write reads them: cut, padded on the right, in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from llm_distill.models.classifiers import (
    class_names,
    classifier_tokenizer,
    gives_several,
    load_classifier,
    most_tokens,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llm_distill.models.sources import ModelSource

R = TypeVar("R", bound="Mapping[str, Any]")


def text_ids(tokenizer: Any, most: int, text: str | None) -> list[int]:
    """A text's tokens, cut after the first `most`; none for a blank one."""
    if not text or not text.strip():
        return []
    ids: list[int] = tokenizer(text, truncation=True, max_length=most)["input_ids"]
    return ids


def right_padded(texts: Sequence[Sequence[int]], pad_token_id: int) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`, int64 [texts, longest]."""
    longest = max(len(ids) for ids in texts)
    ids = torch.full((len(texts), longest), pad_token_id)
    mask = torch.zeros_like(ids)
    for index, tokens in enumerate(texts):
        ids[index, : len(tokens)] = torch.as_tensor(tokens)
        mask[index, : len(tokens)] = 1
    return {"input_ids": ids, "attention_mask": mask}


@dataclass(frozen=True)
class Classifier:
    """A trained classifier that is to read texts. most: tokens of a text."""

    model: Any
    tokenizer: Any
    most: int

    @property
    def classes(self) -> list[str]:
        """Their names, in the order of the logits."""
        return class_names(self.model.config)

    @property
    def several(self) -> bool:
        """Whether a text may have several of them."""
        return gives_several(self.model.config)

    def batches(
        self, rows: Iterable[R], column: str, size: int
    ) -> Iterator[tuple[list[R], list[bool], dict[str, torch.Tensor] | None]]:
        """Rows, which of them have a text, and what the model is given of these; None: none has."""
        left = iter(rows)
        while batch := list(islice(left, size)):
            texts = [text_ids(self.tokenizer, self.most, row[column]) for row in batch]
            read = [ids for ids in texts if ids]
            inputs = None
            if read:
                padded = right_padded(read, self.tokenizer.pad_token_id)
                inputs = {name: value.to(self.model.device) for name, value in padded.items()}
            yield batch, [bool(ids) for ids in texts], inputs


def open_classifier(source: ModelSource, max_length: int, device: str) -> Classifier:
    """Ready to read texts of up to `max_length` tokens.

    Raises:
        ModelError: see `load_classifier`; it has no tokenizer that pads.
    """
    tokenizer = classifier_tokenizer(source)
    model = load_classifier(source, device=device).eval()
    return Classifier(model, tokenizer, most_tokens(source, tokenizer, max_length))
