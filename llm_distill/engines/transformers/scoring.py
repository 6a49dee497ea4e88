"""Likelihoods of given completions, and ranks, from a transformers model's forward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from llm_distill.engines.base import ScoreRequest
from llm_distill.engines.codec import ScoredTokens
from llm_distill.engines.transformers.cache import roomy_cache
from llm_distill.engines.transformers.decoding import is_close
from llm_distill.engines.transformers.shared_prefix import (
    fill_shared,
    padded,
    positions,
    saved_by_sharing,
)
from llm_distill.models.limits import n_rows
from llm_distill.models.memory import is_out_of_memory

MOST_LOGITS = 2**26
"""Logits that are computed at once, 256 MB in float32; a long text goes through in pieces."""

Scored = tuple[tuple[float, ...], tuple[int, ...]]
"""Of a completion's tokens: log-probabilities in nats, and ranks, or nothing if not asked for."""

ScoreBatch = Callable[[Any, Sequence[ScoredTokens]], list[Scored]]

LEAST_SAVED = 0.3
"""Beginnings are shared where at least this share of the tokens need not be computed."""

TRIED = (((5, 3, 8, 2, 9, 6), 4), ((4, 7, 1, 5), 3))
ALIKE = (((5, 3, 8, 2, 9, 6), 4), ((5, 3, 8, 7, 1), 3), ((5, 3, 8, 2, 4), 4))
"""Rows that an architecture is tried with: tokens, and where the completion starts."""


def fitting_score(model: Any) -> ScoreBatch:
    """The first way that gives what plain forward passes do."""
    tried = [_rows(model, rows) for rows in (TRIED, ALIKE)]
    wanted = [_joined(score_plainly(model, rows)) for rows in tried]
    if not all(logprobs.isfinite().all() for logprobs in wanted):  # whoever scores says so
        return score_batch
    for way in (score_sharing, score_batch):
        try:
            found = [_joined(way(model, rows)) for rows in tried]
        except Exception as error:  # an architecture's own: it does not take what it is given
            if is_out_of_memory(error):
                raise
            continue
        if all(is_close(a, b, model.dtype) for a, b in zip(found, wanted, strict=True)):
            return way
    return score_plainly


def _rows(model: Any, rows: Sequence[tuple[Sequence[int], int]]) -> list[ScoredTokens]:
    vocabulary = n_rows(model)
    return [
        ScoredTokens(ScoreRequest("", "", ""), [token % vocabulary for token in tokens], start)
        for tokens, start in rows
    ]


def _joined(scores: list[Scored]) -> torch.Tensor:
    return torch.tensor([logprob for logprobs, _ in scores for logprob in logprobs])


def ranks_of(logits: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """1 + the number of logits [..., V] that are above the chosen one [...]: int64 [...]."""
    return (logits > chosen[..., None]).sum(-1) + 1


def score_plainly(model: Any, batch: Sequence[ScoredTokens]) -> list[Scored]:
    """As `score_batch`, each row by one forward pass of its own, without a cache."""
    found = []
    for row in batch:
        ids = torch.tensor([row.tokens], device=model.device)
        logits = model(input_ids=ids, use_cache=False).logits[0, row.start - 1 : -1].float()
        chosen = logits.gather(1, ids[0, row.start :, None])[:, 0]
        ranks: tuple[int, ...] = ()
        if row.request.ranks:
            ranks = tuple(ranks_of(logits, chosen).clamp(max=row.request.ranks).tolist())
        found.append((tuple((chosen - logits.logsumexp(-1)).tolist()), ranks))
    return found


def score_batch(model: Any, batch: Sequence[ScoredTokens]) -> list[Scored]:
    """Log-probabilities of each row's completion tokens at temperature 1, and ranks.

    Rows are padded on the right, where a causal model does not look, so no mask is needed. The text
    goes through piece by piece over a cache, so that no tensor is [rows, longest, vocabulary].
    """
    device = model.device
    longest = max(len(row.tokens) for row in batch)
    ids = torch.tensor([row.tokens + [0] * (longest - len(row.tokens)) for row in batch])
    ids = ids.to(device)
    first = min(row.start for row in batch) - 1  # its logits predict the first completion token
    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    piece = max(1, MOST_LOGITS // (vocabulary * len(batch)))
    cache = roomy_cache(model.config)
    found = torch.zeros(len(batch), longest)  # [row, token]: that token's log-probability
    with_ranks = any(row.request.ranks for row in batch)
    ranks = torch.zeros(len(batch), longest, dtype=torch.int64)
    # The last token predicts nothing that is asked for. Prompts need a single row of logits.
    borders = [*range(first, longest - 1, piece), longest - 1]
    for start, end in zip([0, *borders], borders, strict=False):
        if start == end:
            continue
        output = model(
            input_ids=ids[:, start:end],
            position_ids=torch.arange(start, end, device=device).expand(len(batch), -1),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=end - start if start >= first else 1,
        )
        if start >= first:
            logits = output.logits.float()
            targets = ids[:, start + 1 : end + 1, None]
            chosen = logits.gather(2, targets)[:, :, 0]
            found[:, start + 1 : end + 1] = (chosen - logits.logsumexp(2)).cpu()
            if with_ranks:
                ranks[:, start + 1 : end + 1] = ranks_of(logits, chosen).cpu()
    places = [slice(row.start, len(row.tokens)) for row in batch]
    return _scored(
        batch,
        [found[i, place] for i, place in enumerate(places)],
        [ranks[i, place] for i, place in enumerate(places)],
    )


def score_sharing(model: Any, batch: Sequence[ScoredTokens]) -> list[Scored]:
    """As `score_batch`, but what several prompts begin with goes through once.

    As where each label of a list is scored after the same text. Where that saves little, or the
    completions are long, it is `score_batch`.
    """
    prompts = [row.tokens[: row.start] for row in batch]
    most = max(len(row.tokens) - row.start for row in batch)
    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    saved = saved_by_sharing(prompts) / sum(len(row.tokens) for row in batch)
    if not most or saved < LEAST_SAVED or len(batch) * most * vocabulary > MOST_LOGITS:
        return score_batch(model, batch)
    cache = roomy_cache(model.config)
    lengths, mask = fill_shared(model, prompts, 0, cache)
    # The last token predicts nothing that is asked for.
    rest = [row.tokens[length:-1] for row, length in zip(batch, lengths, strict=True)]
    input_ids, rest_mask = padded(rest, 0, model.device)
    mask = torch.cat([mask, rest_mask], dim=1)
    logits = model(
        input_ids=input_ids,
        attention_mask=mask,
        position_ids=positions(mask)[:, -input_ids.shape[1] :],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=most,
    ).logits.float()
    targets, _ = padded([row.tokens[row.start :] for row in batch], 0, model.device)
    chosen = logits.gather(2, targets[:, :, None])[:, :, 0]
    logprobs = (chosen - logits.logsumexp(2)).cpu()
    ranks = ranks_of(logits, chosen).cpu() if any(row.request.ranks for row in batch) else targets
    n = [len(row.tokens) - row.start for row in batch]  # they end on the right
    return _scored(
        batch,
        [logprobs[i, most - length :] for i, length in enumerate(n)],
        [ranks[i, most - length :] for i, length in enumerate(n)],
    )


def _scored(
    batch: Sequence[ScoredTokens], logprobs: list[torch.Tensor], ranks: list[torch.Tensor]
) -> list[Scored]:
    return [
        (
            tuple(of_row.tolist()),
            tuple(ranked.clamp(max=row.request.ranks).tolist()) if row.request.ranks else (),
        )
        for row, of_row, ranked in zip(batch, logprobs, ranks, strict=True)
    ]
