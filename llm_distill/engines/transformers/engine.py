"""Generation with transformers, in process: a batched decoding loop over the model's own cache.

Not `model.generate`, which does not take a row that has ended out of the batch, nor compute once
what prompts share; `decoding` says where it is the way all the same.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from llm_distill.engines.base import Completion, Request, Score, ScoreRequest
from llm_distill.engines.codec import Codec, Prompt, ScoredTokens
from llm_distill.engines.transformers.decoding import (
    Decode,
    decode_alone,
    decode_in_steps,
    fitting_decode,
)
from llm_distill.engines.transformers.record import Written
from llm_distill.engines.transformers.sampling import RowSampler
from llm_distill.engines.transformers.scoring import ScoreBatch, fitting_score
from llm_distill.engines.transformers.shared_prefix import groups_by_prefix
from llm_distill.engines.transformers.stopping import StopStrings
from llm_distill.engines.transformers.streaming import Pieces
from llm_distill.engines.transformers.thoughts import ThoughtBudgets
from llm_distill.errors import ModelError
from llm_distill.methods.chat_format import chat_format
from llm_distill.models.limits import check_ids, n_rows
from llm_distill.models.memory import fits_memory, out_of_memory_as
from llm_distill.models.sources import (
    choose_device,
    context_length,
    end_tokens,
    load_model,
    load_tokenizer,
)

if TYPE_CHECKING:
    from llm_distill.engines.transformers.settings import TransformersSettings
    from llm_distill.models.sources import ModelSource

log = logging.getLogger("llm_distill")

BATCHES_AHEAD = 16
"""Batches of requests that are read and sorted by length together, to save padding."""

Row = TypeVar("Row", Prompt, ScoredTokens)
Asked = TypeVar("Asked", Request, ScoreRequest)
Answer = TypeVar("Answer", Completion, Score)


class TransformersEngine:
    """One model on one device.

    Raises:
        ModelError: the model cannot be loaded, or the device is not there.
    """

    def __init__(self, source: ModelSource, settings: TransformersSettings) -> None:
        self._name = source.name
        self._batch_size = settings.batch_size
        self._device = choose_device(settings.device, "engine.device")
        self._tokenizer: Any = load_tokenizer(source)
        with fits_memory(f"model '{source.name}'", self._device):
            self._model: Any = load_model(source, device=self._device)
        self._n_rows = n_rows(self._model)
        self._stops = StopStrings(self._tokenizer)
        ends = end_tokens(source, self._tokenizer)
        self._ends = torch.tensor(sorted(ends))
        context = context_length(source)
        chat = chat_format(source, self._tokenizer)
        self._codec = Codec(source.name, self._tokenizer, ends, context, settings.long_prompt, chat)

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Completions batch by batch; see `engines.base.Engine`.

        Raises:
            ModelError: a batch does not fit into memory, or the model computes NaN.
        """
        yield from self._answers(requests, self._read, _cost, self._decode)

    def stream(self, request: Request, on_text: Callable[[str], None]) -> Completion:
        """One completion, whose text `on_text` is given piece by piece as it is written."""
        prompt = self._read(request)
        if isinstance(prompt, Completion):
            return prompt
        check_ids(max(prompt.tokens), self._n_rows, self._name, f"request '{request.id}'")
        pieces = Pieces(self._codec.text, set(self._ends.tolist()), request.sampling.stop, on_text)
        on_text(prompt.opened)
        (completion,) = self._batch([prompt], lambda batch: self._decode(batch, pieces.heard))
        pieces.rest(completion.text.removeprefix(prompt.opened))
        return completion

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Score]:
        """Scores batch by batch; see `engines.base.Engine`.

        Raises:
            ModelError: a batch does not fit into memory, or the model computes NaN.
        """
        yield from self._answers(
            requests, self._codec.read_scored, lambda row: len(row.tokens), self._scores
        )

    def close(self) -> None:
        """Free the weights, and the device's memory with them."""
        self._model = None
        if self._device == "cuda":
            torch.cuda.empty_cache()

    def _read(self, request: Request) -> Prompt | Completion:
        if request.structure is not None:
            raise ModelError(
                f"request '{request.id}' asks for structured output, which kind: transformers "
                f"cannot hold; set engine.kind of model '{self._name}' to vllm or openai"
            )
        return self._codec.read(request)

    def _answers(
        self,
        requests: Iterable[Asked],
        read: Callable[[Asked], Row | Answer],
        cost: Callable[[Row], Any],
        answer: Callable[[list[Row]], list[Answer]],
    ) -> Iterator[Answer]:
        """Read a window of requests at a time and answer it in batches of rows of like cost."""
        source = iter(requests)
        while window := list(islice(source, self._batch_size * BATCHES_AHEAD)):
            rows: list[Row] = []
            for request in window:
                found = read(request)
                if isinstance(found, Prompt | ScoredTokens):
                    what = f"request '{found.request.id}'"
                    check_ids(max(found.tokens), self._n_rows, self._name, what)
                    rows.append(found)
                else:
                    yield found
            rows = _in_order(rows, cost)
            for start in range(0, len(rows), self._batch_size):
                yield from self._batch(rows[start : start + self._batch_size], answer)

    def _batch(self, batch: list[Row], answer: Callable[[list[Row]], list[Answer]]) -> list[Answer]:
        longest = max(len(row.tokens) for row in batch)
        advice = (
            f"model '{self._name}' ran out of memory with {len(batch)} prompts of up to "
            f"{longest} tokens; lower engine.batch_size (now {self._batch_size})"
        )
        with out_of_memory_as(advice), torch.inference_mode():
            return answer(batch)

    def _scores(self, batch: list[ScoredTokens]) -> list[Score]:
        found = self._fitting_score(self._model, batch)
        if any(math.isnan(logprob) for logprobs, _ in found for logprob in logprobs):
            raise ModelError(f"model '{self._name}' computes NaN; try another dtype for it")
        return [
            Score(row.request.id, tuple(row.tokens[row.start :]), logprobs, row.start, ranks=ranks)
            for row, (logprobs, ranks) in zip(batch, found, strict=True)
        ]

    def _decode(
        self, batch: list[Prompt], heard: Callable[[list[int]], None] | None = None
    ) -> list[Completion]:
        """Decode one batch to its end; `heard` is told the first row's tokens after each step."""
        sampling = [prompt.request.sampling for prompt in batch]
        sampler = RowSampler(sampling, [prompt.request.seed for prompt in batch])
        written = Written(
            [prompt.request for prompt in batch],
            [prompt.limit for prompt in batch],
            self._stops,
            self._ends,
        )
        thoughts = ThoughtBudgets(self._name, self._tokenizer, self._stops, batch)

        def draw(
            step: int, rows: torch.Tensor, logits: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            if step == 0 and logits.isnan().any():
                raise ModelError(f"model '{self._name}' computes NaN; try another dtype for it")
            drawn = thoughts.hold(step, rows, sampler.draw(logits, rows, step), written)
            going = written.add(step, rows, drawn, logits)
            thoughts.note(step, rows, written)
            if heard is not None:
                heard(written.tokens[0, : step + 1].tolist())
            return drawn, going

        most = max(prompt.limit for prompt in batch)
        pad = self._tokenizer.pad_token_id
        self._fitting_decode(self._model, [p.tokens for p in batch], most, pad, draw)
        found = [self._completion(prompt, written, row) for row, prompt in enumerate(batch)]
        return [
            done if cut is None else replace(done, thought_cut=cut)
            for done, cut in zip(found, thoughts.cut, strict=True)
        ]

    @cached_property
    def _fitting_decode(self) -> Decode:
        found = fitting_decode(self._model, self._tokenizer.pad_token_id)
        kind = self._model.config.model_type
        if found is None:
            raise ModelError(
                f"model '{self._name}' is of type {kind}, which cannot be decoded here: neither "
                "our loop nor model.generate writes what plain forward passes say"
            )
        if found is not decode_in_steps:
            log.warning(
                "model '%s' is of type %s: model.generate decodes it, %s, which is slower",
                self._name,
                kind,
                "each prompt alone" if found is decode_alone else "prompts of one length together",
            )
        return found

    @cached_property
    def _fitting_score(self) -> ScoreBatch:
        return fitting_score(self._model)

    def _completion(self, prompt: Prompt, written: Written, row: int) -> Completion:
        length = int(written.lengths[row])
        logprobs = None
        if prompt.request.wants_logprobs:
            logprobs = tuple(written.logprobs[row, :length].tolist())
        tokens = written.tokens[row, :length].tolist()
        return self._codec.completion(prompt, tokens, bool(written.stopped[row]), logprobs)


def _in_order(rows: list[Row], cost: Callable[[Row], Any]) -> list[Row]:
    """Longest first, so that running out of memory shows at once; shared prefixes together."""
    groups = [[rows[i] for i in group] for group in groups_by_prefix([r.tokens for r in rows])]
    for group in groups:
        group.sort(key=cost, reverse=True)
    groups.sort(key=lambda group: cost(group[0]), reverse=True)
    return [row for group in groups for row in group]


def _cost(prompt: Prompt) -> tuple[bool, int, int]:
    """Rows with a like key run well together: kind of sampling, then length."""
    sampling = prompt.request.sampling
    truncates = sampling.temperature > 0 and (sampling.top_k > 0 or sampling.top_p < 1)
    return truncates, prompt.limit, len(prompt.tokens)
