"""The rewards of an answer's steps, all of them from one forward pass.

A causal model's output after a step does not depend on what follows, so the pass over the whole
answer gives each step what a pass over the answer up to it would give.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from llm_distill.engines.process_reward.encoding import Encoded, Encoder
from llm_distill.engines.process_reward.format import NextToken, RewardFormat
from llm_distill.engines.process_reward.loading import (
    Loaded,
    check_is_causal,
    classification_judge,
    next_token_judge,
)
from llm_distill.errors import DataError, ModelError
from llm_distill.models.limits import check_ids
from llm_distill.models.memory import fits_memory, out_of_memory_as
from llm_distill.models.sources import (
    Device,
    ModelSource,
    choose_device,
    context_length,
    load_tokenizer,
)

Answer = tuple[str, Sequence[str]]
"""A question and the steps of the answer, of which there is at least one."""


@dataclass(frozen=True, slots=True)
class Rewards:
    """How likely each step is right, in [0, 1]; or why nobody knows (`error`)."""

    steps: tuple[float, ...] = ()
    error: str | None = None


class ProcessRewardModel:
    """One process reward model on one device; `close` frees its memory.

    Raises:
        ModelError: it cannot be loaded, lacks the head or the tokens, or is not causal.
    """

    def __init__(
        self, source: ModelSource, form: RewardFormat, batch_size: int, device: Device = "auto"
    ) -> None:
        """batch_size: answers in one pass."""
        self._name, self._batch_size = source.name, batch_size
        self._device = choose_device(device, "device")
        self._encoder = Encoder(source, load_tokenizer(source), form, context_length(source))
        with fits_memory(f"reward model '{source.name}'", self._device):
            self._judge: Any
            self._judge, self._n_rows = self._load(source, form)
        check_is_causal(self._judge, source.name, self._device)

    def _load(self, source: ModelSource, form: RewardFormat) -> Loaded:
        if isinstance(form, NextToken):
            bad, good = self._encoder.ids[form.bad], self._encoder.ids[form.good]
            return next_token_judge(source, self._device, bad, good)
        return classification_judge(source, self._device)

    def score(
        self, answers: Sequence[Answer], note: Callable[[int], None] = lambda n: None
    ) -> list[Rewards]:
        """The rewards of each answer, in the order of `answers`.

        An answer that cannot be scored (see `Encoder.encode`) gets an error. The longest come
        first: what does not fit into memory fails at once.

        note: called with the number of answers of each batch that is done.

        Raises:
            ModelError: a token has no row in the model, a batch does not fit into memory, or the
                model computes NaN.
        """
        found: dict[int, Rewards] = {}
        encoded: dict[int, Encoded] = {}
        for index, (question, steps) in enumerate(answers):
            try:
                encoded[index] = self._encoder.encode(question, steps)
            except DataError as error:
                found[index] = Rewards(error=str(error))
                continue
            what = f"the answer to {question[:40]!r}"
            check_ids(max(encoded[index].tokens), self._n_rows, self._name, what)
        note(len(found))
        order = sorted(encoded, key=lambda index: len(encoded[index].tokens), reverse=True)
        for start in range(0, len(order), self._batch_size):
            batch = order[start : start + self._batch_size]
            scores = self._scores([encoded[index] for index in batch])
            found.update(zip(batch, map(Rewards, scores), strict=True))
            note(len(batch))
        return [found[index] for index in range(len(answers))]

    def close(self) -> None:
        """Free the weights, and the device's memory with them."""
        self._judge = None
        if self._device == "cuda":
            torch.cuda.empty_cache()

    def _scores(self, batch: list[Encoded]) -> list[tuple[float, ...]]:
        """A batch's rewards; padded on the right, where a causal model does not look."""
        longest = max(len(answer.tokens) for answer in batch)
        ids = torch.tensor([a.tokens + [0] * (longest - len(a.tokens)) for a in batch])
        counts = [len(answer.places) for answer in batch]
        rows = torch.arange(len(batch)).repeat_interleave(torch.tensor(counts))
        places = torch.tensor([place for answer in batch for place in answer.places])
        advice = (
            f"reward model '{self._name}' ran out of memory with {len(batch)} answers of up to "
            f"{longest} tokens; lower batch_size (now {self._batch_size})"
        )
        with out_of_memory_as(advice), torch.inference_mode():
            logits = self._judge(*(t.to(self._device) for t in (ids, rows, places)))
        right = logits.softmax(-1)[:, 1].cpu()
        if right.isnan().any():
            raise ModelError(f"model '{self._name}' computes NaN; try another dtype for it")
        return [tuple(scores.tolist()) for scores in right.split(counts)]
