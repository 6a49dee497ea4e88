"""Generation with transformers, in process: a batched decoding loop over the model's own cache.

Own loop rather than `model.generate`, for three things that it cannot do: each row draws with its
own seed, a row that has ended leaves the batch, and a stop string ends only its own row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from jinja2 import TemplateError

from llm_distill.engines.base import Completion, FinishReason, Request, Score, ScoreRequest
from llm_distill.engines.cache import roomy_cache
from llm_distill.engines.record import Record
from llm_distill.engines.sampling import RowSampler
from llm_distill.engines.stopping import StopStrings
from llm_distill.errors import ModelError
from llm_distill.models import end_tokens, is_out_of_memory, load_model, load_tokenizer

if TYPE_CHECKING:
    from llm_distill.engines.config import TransformersSettings
    from llm_distill.models import ModelSource

BATCHES_AHEAD = 16
"""Batches of requests that are read and sorted by length together: less padding, flat memory."""

STILL_GOING = 0.75
"""The cache is copied without the rows that have ended once at most this share is still going."""


@dataclass(frozen=True, slots=True)
class _Prompt:
    """A request as token ids, and how many tokens may be written for it."""

    request: Request
    tokens: list[int]
    limit: int

    @property
    def cost(self) -> tuple[bool, int, int]:
        """What is alike in it runs together well: kind of sampling, then length."""
        sampling = self.request.sampling
        truncates = sampling.temperature > 0 and (sampling.top_k > 0 or sampling.top_p < 1)
        return truncates, self.limit, len(self.tokens)


class TransformersEngine:
    """One model on one device. `generate` may be called many times; `close` frees the memory.

    Raises:
        ModelError: the model cannot be loaded, or the device is not there.
    """

    def __init__(self, source: ModelSource, settings: TransformersSettings) -> None:
        self._name = source.name
        self._batch_size = settings.batch_size
        self._device = _device(settings.device)
        self._tokenizer: Any = load_tokenizer(source)
        try:
            self._model: Any = load_model(source, device=self._device)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise ModelError(
                f"model '{source.name}' does not fit into the memory of {self._device}; take a "
                "smaller one, or dtype: bfloat16"
            ) from error
        self._stops = StopStrings(self._tokenizer)
        self._ends = torch.tensor(sorted(end_tokens(source, self._tokenizer)))
        self._anchor: list[int] = self._tokenizer("a", add_special_tokens=False)["input_ids"]
        config = self._model.config.get_text_config(decoder=True)
        self._context: int = getattr(config, "max_position_embeddings", None) or 10**9

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Completions in the order in which batches end; see `engines.base.Engine`.

        Raises:
            ModelError: a batch does not fit into memory, or the model computes no numbers.
        """
        source = iter(requests)
        while window := list(islice(source, self._batch_size * BATCHES_AHEAD)):
            prompts = []
            for request in window:
                read = self._read(request)
                if isinstance(read, Completion):
                    yield read
                else:
                    prompts.append(read)
            # Longest first: what does not fit into memory fails at once.
            prompts.sort(key=lambda prompt: prompt.cost, reverse=True)
            for start in range(0, len(prompts), self._batch_size):
                yield from self._run(prompts[start : start + self._batch_size])

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Score]:
        """See `engines.base.Engine`."""
        raise NotImplementedError

    def close(self) -> None:
        """Free the weights, and the device's memory with them."""
        self._model = None
        if self._device == "cuda":
            torch.cuda.empty_cache()

    def _read(self, request: Request) -> _Prompt | Completion:
        """The request's tokens, or a completion that says why it cannot be answered."""
        try:
            tokens = self._tokens(request.prompt)
        except TemplateError as error:
            message = f"the chat template of model '{self._name}' refuses the messages: {error}"
            return Completion(request.id, "", "error", error=message)
        room = self._context - len(tokens)
        if tokens and room > 0:
            return _Prompt(request, tokens, min(request.sampling.max_tokens, room))
        message = "the prompt is empty: the model needs a token to continue from"
        if tokens:
            message = (
                f"the prompt has {len(tokens)} tokens; model '{self._name}' has a context of "
                f"{self._context}, and the completion needs at least one of them"
            )
        return Completion(request.id, "", "error", len(tokens), error=message)

    def _tokens(self, prompt: str | Sequence[dict[str, str]]) -> list[int]:
        if isinstance(prompt, str):
            return list(self._tokenizer(prompt, verbose=False)["input_ids"])
        if not self._tokenizer.chat_template:
            raise ModelError(
                f"model '{self._name}' has no chat template, but was given messages; "
                "set prompt_format: text for it under models:"
            )
        text = self._tokenizer.apply_chat_template(
            list(prompt), tokenize=False, add_generation_prompt=True
        )
        # The template writes the special tokens itself.
        ids = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return list(ids)

    def _run(self, batch: list[_Prompt]) -> list[Completion]:
        try:
            with torch.inference_mode():
                return self._decode(batch)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            longest = max(len(prompt.tokens) for prompt in batch)
            raise ModelError(
                f"model '{self._name}' ran out of memory with {len(batch)} prompts of up to "
                f"{longest} tokens; lower engine.batch_size (now {self._batch_size})"
            ) from error

    def _decode(self, batch: list[_Prompt]) -> list[Completion]:
        """Decode one batch to its end.

        `rows` maps the rows of the tensors to those of `batch`. A row that has ended stays in the
        tensors, unread, until enough have ended that copying the cache without them pays.
        """
        input_ids, mask = self._pad([prompt.tokens for prompt in batch])
        position_ids = (mask.cumsum(1) - 1).clamp(min=0)
        sampling = [prompt.request.sampling for prompt in batch]
        sampler = RowSampler(sampling, [prompt.request.seed for prompt in batch])
        record = Record(
            [prompt.request for prompt in batch],
            [prompt.limit for prompt in batch],
            self._stops,
            self._ends,
        )
        cache = roomy_cache(self._model.config)
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
            going = record.add(step, rows, drawn, logits)
            if not going.any():
                break
            input_ids, position_ids = drawn[:, None], position_ids[:, -1:] + 1
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            if going.sum() <= STILL_GOING * len(rows):
                rows, kept = rows[going], going.nonzero()[:, 0].to(self._device)
                cache.batch_select_indices(kept)
                input_ids, position_ids, mask = input_ids[kept], position_ids[kept], mask[kept]
        return [self._completion(prompt, record, row) for row, prompt in enumerate(batch)]

    def _completion(self, prompt: _Prompt, record: Record, row: int) -> Completion:
        length = int(record.lengths[row])
        tokens = record.tokens[row, :length].tolist()
        text = self._text(tokens[:-1] if tokens[-1] in self._ends else tokens)
        reason: FinishReason = "stop" if record.stopped[row] else "length"
        starts = [text.find(stop) for stop in prompt.request.sampling.stop if stop in text]
        if starts:
            text, reason = text[: min(starts)], "stop"
        logprobs = None
        if prompt.request.logprobs:
            logprobs = tuple(record.logprobs[row, :length].tolist())
        return Completion(
            prompt.request.id, text, reason, len(prompt.tokens), length, logprobs=logprobs
        )

    def _text(self, tokens: list[int]) -> str:
        """The text of completion tokens, decoded behind a letter.

        Some tokenizers (those of Llama 2 and Mistral) drop the space before a text's first word;
        behind a letter it stays.
        """
        whole: str = self._tokenizer.decode(
            self._anchor + tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return whole.removeprefix("a")

    def _pad(self, prompts: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Left-padded ids and mask, both [batch, longest]."""
        longest = max(len(tokens) for tokens in prompts)
        pad = self._tokenizer.pad_token_id
        ids = [[pad] * (longest - len(tokens)) + tokens for tokens in prompts]
        ones = [[0] * (longest - len(tokens)) + [1] * len(tokens) for tokens in prompts]
        device = self._device
        return torch.tensor(ids, device=device), torch.tensor(ones, device=device)


def _device(wanted: str) -> str:
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ModelError("engine.device is cuda, but there is no CUDA device; use auto or cpu")
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted
