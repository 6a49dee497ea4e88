"""Ways to decode a batch, and which of them a model's architecture allows.

In steps of our own over the model's cache, which takes rows of any length together, shares what
they begin with, and takes out those that have ended; or by `model.generate`, which knows every
architecture's own kind of state, with our draws in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria

from llm_distill.engines.transformers.cache import roomy_cache
from llm_distill.engines.transformers.shared_prefix import fill_shared, padded, positions
from llm_distill.models.limits import n_rows
from llm_distill.models.memory import is_out_of_memory

Draw = Callable[[int, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""From a step, rows [n] and their logits [n, vocabulary] in float32: a token each, who goes on."""

Decode = Callable[[Any, Sequence[list[int]], int, int, Draw], None]
"""Draws for prompts of token ids, up to `most` tokens each: (model, prompts, most, pad, draw)."""

STILL_GOING = 0.75
"""Once at most this share of the rows goes on, the cache is copied without the others."""

MOST_ROUNDING = 0.25
"""The most that rounding in half precision changes logits, as where an expert is another."""

TRIED = ((5, 2), (2, 4), (2, 4))
"""Rows that an architecture is tried with: tokens of the prompt, and then of the completion."""


def decode_in_steps(
    model: Any, prompts: Sequence[list[int]], most: int, pad: int, draw: Draw
) -> None:
    """Our own loop.

    `rows` maps the rows of the tensors to those of `prompts`. A row that has ended stays in the
    tensors, unread, until enough have ended that copying the cache without them pays.
    """
    cache = roomy_cache(model.config)
    # A layer with a recurrent state, of a hybrid model, may not know how.
    can_drop = all(hasattr(layer, "batch_select_indices") for layer in cache.layers)
    lengths, mask = fill_shared(model, prompts, pad, cache)
    rest = [tokens[length:] for tokens, length in zip(prompts, lengths, strict=True)]
    input_ids, rest_mask = padded(rest, pad, model.device)
    mask = torch.cat([mask, rest_mask], dim=1)
    position_ids = positions(mask)[:, -input_ids.shape[1] :]
    rows = torch.arange(len(prompts))
    for step in range(most):
        output = model(
            input_ids=input_ids,
            attention_mask=mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        drawn, going = draw(step, rows, output.logits[:, -1].float())
        if not going.any():
            break
        input_ids, position_ids = drawn[:, None], position_ids[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        if can_drop and going.sum() <= STILL_GOING * len(rows):
            rows, kept = rows[going], going.nonzero()[:, 0].to(model.device)
            cache.batch_select_indices(kept)
            input_ids, position_ids, mask = input_ids[kept], position_ids[kept], mask[kept]


def decode_by_generate(
    model: Any, prompts: Sequence[list[int]], most: int, pad: int, draw: Draw
) -> None:
    """The loop of transformers, over rows of one length at a time: padding may change a state."""
    for length in sorted({len(tokens) for tokens in prompts}, reverse=True):
        rows = [row for row, tokens in enumerate(prompts) if len(tokens) == length]
        _generate(model, [prompts[row] for row in rows], rows, most, pad, draw)


def decode_alone(model: Any, prompts: Sequence[list[int]], most: int, pad: int, draw: Draw) -> None:
    """The loop of transformers over each row by itself: some architectures mix up the rows."""
    for row, tokens in enumerate(prompts):
        _generate(model, [tokens], [row], most, pad, draw)


def _generate(
    model: Any, prompts: list[list[int]], rows: list[int], most: int, pad: int, draw: Draw
) -> None:
    ids = torch.tensor(prompts, device=model.device)
    draws = _Draws(draw, torch.tensor(rows), ids.shape[1])
    kept = model.generation_config
    model.generation_config = GenerationConfig()  # not a penalty of the model's own
    try:
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=GenerationConfig(
                do_sample=False, max_new_tokens=most, pad_token_id=pad
            ),
            logits_processor=[draws],
            stopping_criteria=[_Ended(draws)],
        )
    finally:
        model.generation_config = kept


class _Draws(LogitsProcessor):  # type: ignore[misc]
    """Leaves only the token that is drawn, so that greedy decoding takes it."""

    def __init__(self, draw: Draw, rows: torch.Tensor, start: int) -> None:
        self._draw, self._rows, self._start = draw, rows, start
        self.going = torch.ones(len(rows), dtype=torch.bool)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        step = input_ids.shape[1] - self._start
        drawn, self.going = self._draw(step, self._rows, scores.float())
        return torch.full_like(scores, -torch.inf).scatter_(1, drawn[:, None], 0)


class _Ended(StoppingCriteria):  # type: ignore[misc]
    def __init__(self, draws: _Draws) -> None:
        self._draws = draws

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return ~self._draws.going.to(input_ids.device)


def fitting_decode(model: Any, pad: int) -> Decode | None:
    """The first way that gives the logits of plain forward passes; None where neither does.

    A model may take a cache that it does not know, or read padding, without a word.
    """
    wanted, tokens = _plain_logits(model)
    if not wanted.isfinite().all():  # whoever decodes says so
        return decode_in_steps
    nearest, least = None, MOST_ROUNDING
    for decode in (decode_in_steps, decode_by_generate, decode_alone):
        found = _tried(decode, model, pad, tokens)
        if found is None:
            continue
        if is_close(found, wanted, model.dtype):
            return decode
        if difference(found, wanted) < least and model.dtype != torch.float32:
            nearest, least = decode, difference(found, wanted)
    return nearest


def is_close(one: torch.Tensor, other: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether they differ by no more than rounding in `dtype` usually does."""
    return difference(one, other) <= (1e-3 if dtype == torch.float32 else 5e-2)


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest, as a share of the largest of `other`."""
    ratio = (one - other).abs().max() / other.abs().max().clamp(min=1e-6)
    return float(ratio.detach())


def _plain_logits(model: Any) -> tuple[torch.Tensor, list[list[int]]]:
    """Logits [rows, steps, vocabulary] without a cache or padding, and each row's tokens."""
    vocabulary = n_rows(model)
    tokens = [
        [(7 * row + 3 * place) % vocabulary for place in range(length + steps)]
        for row, (length, steps) in enumerate(TRIED)
    ]
    found = []
    for row, (length, steps) in zip(tokens, TRIED, strict=True):
        ids = torch.tensor([row], device=model.device)
        logits = model(input_ids=ids, use_cache=False).logits[0].float()
        found.append(logits[length - 1 : length - 1 + steps])
    return torch.nn.utils.rnn.pad_sequence(found, batch_first=True), tokens


def _tried(decode: Decode, model: Any, pad: int, tokens: list[list[int]]) -> torch.Tensor | None:
    """The logits that `decode` sees where these tokens are drawn; None where it fails."""
    most = max(steps for _, steps in TRIED)
    seen: dict[tuple[int, int], torch.Tensor] = {}

    def draw(
        step: int, rows: torch.Tensor, logits: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        drawn = []
        for row, logit in zip(rows.tolist(), logits, strict=True):
            length, steps = TRIED[row]
            if step < steps:
                seen[row, step] = logit
            drawn.append(tokens[row][min(length + step, len(tokens[row]) - 1)])
        going = torch.tensor([step + 1 < TRIED[row][1] for row in rows.tolist()])
        return torch.tensor(drawn, device=logits.device), going

    prompts = [row[:length] for row, (length, _) in zip(tokens, TRIED, strict=True)]
    try:
        decode(model, prompts, most, pad, draw)
        rows = [
            torch.stack([seen[row, step] for step in range(steps)])
            for row, (_, steps) in enumerate(TRIED)
        ]
    except Exception as error:  # an architecture's own: it does not take what it is given
        if is_out_of_memory(error):
            raise
        return None
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
