"""Generation with transformers, in process: a batched decoding loop over the model's own cache.

Not `model.generate`, which cannot do three things: draw each row with its own seed, take a row that
has ended out of the batch, and end only the row that wrote a stop string.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from llm_distill.engines.base import Completion, Request, Score, ScoreRequest
from llm_distill.engines.codec import Codec, Prompt, ScoredTokens
from llm_distill.engines.transformers.cache import is_all_roomy, roomy_cache
from llm_distill.engines.transformers.record import Written
from llm_distill.engines.transformers.sampling import RowSampler
from llm_distill.engines.transformers.scoring import score_batch
from llm_distill.engines.transformers.shared_prefix import groups_by_prefix, prefix_length
from llm_distill.engines.transformers.stopping import StopStrings
from llm_distill.errors import ModelError
from llm_distill.methods.chat_format import chat_format
from llm_distill.models.sources import (
    choose_device,
    context_length,
    end_tokens,
    fits_memory,
    load_model,
    load_tokenizer,
    out_of_memory_as,
)

if TYPE_CHECKING:
    from llm_distill.engines.transformers.settings import TransformersSettings
    from llm_distill.models.sources import ModelSource

BATCHES_AHEAD = 16
"""Batches of requests that are read and sorted by length together, to save padding."""

STILL_GOING = 0.75
"""Once at most this share of the rows goes on, the cache is copied without the others."""

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
        found = score_batch(self._model, batch)
        if any(math.isnan(logprob) for logprobs in found for logprob in logprobs):
            raise ModelError(f"model '{self._name}' computes NaN; try another dtype for it")
        return [
            Score(row.request.id, tuple(row.tokens[row.start :]), logprobs, row.start)
            for row, logprobs in zip(batch, found, strict=True)
        ]

    def _decode(self, batch: list[Prompt]) -> list[Completion]:
        """Decode one batch to its end.

        `rows` maps the rows of the tensors to those of `batch`. A row that has ended stays in the
        tensors, unread, until enough have ended that copying the cache without them pays.
        """
        sampling = [prompt.request.sampling for prompt in batch]
        sampler = RowSampler(sampling, [prompt.request.seed for prompt in batch])
        written = Written(
            [prompt.request for prompt in batch],
            [prompt.limit for prompt in batch],
            self._stops,
            self._ends,
        )
        cache = roomy_cache(self._model.config)
        input_ids, mask = self._without_shared([prompt.tokens for prompt in batch], cache)
        position_ids = _positions(mask)[:, -input_ids.shape[1] :]
        rows = torch.arange(len(batch))
        for step in range(max(prompt.limit for prompt in batch)):
            output = self._model(
                input_ids=input_ids,
                attention_mask=mask,
                position_ids=position_ids,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            logits = output.logits[:, -1].float()
            if step == 0 and logits.isnan().any():
                raise ModelError(f"model '{self._name}' computes NaN; try another dtype for it")
            drawn = sampler.draw(logits, rows, step)
            going = written.add(step, rows, drawn, logits)
            if not going.any():
                break
            input_ids, position_ids = drawn[:, None], position_ids[:, -1:] + 1
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            if going.sum() <= STILL_GOING * len(rows):
                rows, kept = rows[going], going.nonzero()[:, 0].to(self._device)
                cache.batch_select_indices(kept)
                input_ids, position_ids, mask = input_ids[kept], position_ids[kept], mask[kept]
        return [self._completion(prompt, written, row) for row, prompt in enumerate(batch)]

    def _completion(self, prompt: Prompt, written: Written, row: int) -> Completion:
        length = int(written.lengths[row])
        logprobs = None
        if prompt.request.logprobs:
            logprobs = tuple(written.logprobs[row, :length].tolist())
        tokens = written.tokens[row, :length].tolist()
        return self._codec.completion(prompt, tokens, bool(written.stopped[row]), logprobs)

    def _without_shared(
        self, prompts: list[list[int]], cache: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Fill the cache with what groups of prompts share, computed once a group.

        A layer with a sliding window or a state counts places, not positions: there nothing is
        shared.

        Returns:
            The ids of the rest of each prompt, [batch, longest rest], and the mask over prefix and
            rest, [batch, longest prefix + longest rest].
        """
        groups = groups_by_prefix(prompts)
        prefixes = [prefix_length([prompts[index] for index in group]) for group in groups]
        if len(groups) == len(prompts) or not is_all_roomy(cache):
            return self._pad(prompts)
        group_of = torch.empty(len(prompts), dtype=torch.long, device=self._device)
        for number, group in enumerate(groups):
            group_of[torch.tensor(group)] = number
        heads = [prompts[g[0]][:length] for g, length in zip(groups, prefixes, strict=True)]
        input_ids, mask = self._pad(heads)
        self._model(
            input_ids=input_ids,
            attention_mask=mask,
            position_ids=_positions(mask),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache.batch_select_indices(group_of)
        rest = [tokens[prefixes[group_of[i]] :] for i, tokens in enumerate(prompts)]
        input_ids, rest_mask = self._pad(rest)
        return input_ids, torch.cat([mask[group_of], rest_mask], dim=1)

    def _pad(self, prompts: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Left-padded ids and mask, both [batch, longest]."""
        longest = max(len(tokens) for tokens in prompts)
        pad = self._tokenizer.pad_token_id
        ids = [[pad] * (longest - len(tokens)) + tokens for tokens in prompts]
        ones = [[0] * (longest - len(tokens)) + [1] * len(tokens) for tokens in prompts]
        device = self._device
        return torch.tensor(ids, device=device), torch.tensor(ones, device=device)


def _positions(mask: torch.Tensor) -> torch.Tensor:
    """Each token's position among those that the mask keeps, [batch, length]."""
    return (mask.cumsum(1) - 1).clamp(min=0)


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
