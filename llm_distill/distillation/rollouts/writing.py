"""The model in training writes: batched, without dropout, each text from a seed of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from llm_distill.distillation.alignment.encoding import RowEncoder
from llm_distill.distillation.lm_head.model_head import unwrapped
from llm_distill.distillation.rollouts.rows import Written, read_written
from llm_distill.distillation.rollouts.settings import RolloutSettings
from llm_distill.engines.base import Request, SamplingSettings
from llm_distill.engines.transformers import record
from llm_distill.engines.transformers.decoding import Decode, fitting_decode
from llm_distill.engines.transformers.sampling import RowSampler
from llm_distill.engines.transformers.stopping import StopStrings
from llm_distill.errors import ModelError
from llm_distill.models.memory import out_of_memory_as
from llm_distill.training.greedy import as_loaded


class Writer:
    """Writes after prompts, as the engine `transformers` does, with the weights as they are now.

    encoder: the student's.
    """

    def __init__(self, encoder: RowEncoder, settings: RolloutSettings) -> None:
        self._tokenizer, self._settings = encoder.tokenizer, settings
        self._ends = encoder.pairs.ends
        self._stops = StopStrings(encoder.tokenizer)
        self._sampling = SamplingSettings(
            temperature=settings.temperature, max_tokens=settings.max_tokens, stop=settings.stop
        )
        self._decode: Decode | None = None

    def write(
        self, model: Any, prompts: Sequence[list[int]], seeds: Sequence[int], step: int = 0
    ) -> list[Written]:
        """A text after each prompt, in their order. How they are batched only changes rounding.

        Raises:
            ModelError: a batch does not fit into memory, or the model computes NaN.
        """
        order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
        size = self._settings.batch_size
        found: dict[int, Written] = {}
        was_training = model.training
        model.eval()  # no dropout; and layers take a cache only so, where checkpoints are made
        try:
            with torch.no_grad(), as_loaded(model):
                for start in range(0, len(order), size):
                    batch = order[start : start + size]
                    texts = self._batch(
                        unwrapped(model), [prompts[i] for i in batch], [seeds[i] for i in batch]
                    )
                    found.update(zip(batch, texts, strict=True))
        finally:
            model.train(was_training)
        return [found[index] for index in range(len(prompts))]

    def _batch(self, model: Any, prompts: list[list[int]], seeds: list[int]) -> list[Written]:
        pad = self._tokenizer.pad_token_id
        if self._decode is None:
            self._decode = fitting_decode(model, pad)
        if self._decode is None:
            raise ModelError(
                f"a model of type {model.config.model_type} cannot write while it is trained: "
                "neither our loop nor model.generate writes what plain forward passes say"
            )
        ends = torch.tensor(sorted(self._ends))
        n, most = len(prompts), self._settings.max_tokens
        requests = [Request("", "", self._sampling, seed) for seed in seeds]
        sampler = RowSampler([self._sampling] * n, seeds)
        written = record.Written(requests, [most] * n, self._stops, ends)

        def draw(
            step: int, rows: torch.Tensor, logits: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            if step == 0 and logits.isnan().any():
                raise ModelError("the student computes NaN; lower learning_rate")
            drawn = sampler.draw(logits, rows, step)
            return drawn, written.add(step, rows, drawn, logits)

        advice = (
            f"the student ran out of memory as it wrote {n} texts of up to {most} tokens; lower "
            f"rollouts.batch_size (now {self._settings.batch_size})"
        )
        with out_of_memory_as(advice):
            self._decode(model, prompts, most, pad, draw)
        return [
            read_written(
                written.tokens[row, : int(written.lengths[row])].tolist(),
                *(self._tokenizer, self._ends, self._settings.stop),
            )
            for row in range(n)
        ]
