"""Likelihoods of given completions, from a transformers model's forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from llm_distill.engines.transformers.cache import roomy_cache

if TYPE_CHECKING:
    from llm_distill.engines.codec import ScoredTokens

MOST_LOGITS = 2**26
"""Logits that are computed at once, 256 MB in float32; a long text goes through in pieces."""


def score_batch(model: Any, batch: Sequence[ScoredTokens]) -> list[tuple[float, ...]]:
    """Log-probabilities of each row's completion tokens under the model, at temperature 1.

    The rows are padded on the right, where a causal model does not look: no mask is needed. The
    text goes through the model piece by piece over a cache, so that no tensor is [rows, longest,
    vocabulary].
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
            chosen = logits.gather(2, targets)[:, :, 0] - logits.logsumexp(2)
            found[:, start + 1 : end + 1] = chosen.cpu()
    return [tuple(f[r.start : len(r.tokens)].tolist()) for r, f in zip(batch, found, strict=True)]
