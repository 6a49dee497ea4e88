"""Prompts that begin alike, so that what they share is computed once.

Worked examples and instructions are often the same in all prompts but for the last question.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from llm_distill.engines.transformers.cache import is_all_roomy

LEAST_SHARE = 0.5
"""Neighbours belong together if they share this much of the shorter one."""


def groups_by_prefix(prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """The prompts' indices in groups that begin alike, each group in order of its tokens."""
    order = sorted(range(len(prompts)), key=lambda index: list(prompts[index]))
    groups: list[list[int]] = []
    for index in order:
        if groups:
            before, tokens = prompts[groups[-1][-1]], prompts[index]
            if shared(before, tokens) >= LEAST_SHARE * min(len(before), len(tokens)):
                groups[-1].append(index)
                continue
        groups.append([index])
    return groups


def shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two prompts have in common at their beginnings."""
    for index, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return index
    return min(len(one), len(other))


def prefix_length(group: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts of a group, in order of their tokens, begin with.

    At least one token of each is left, since its logits are needed; a lone prompt shares nothing.
    """
    if len(group) == 1:
        return 0
    return min(shared(group[0], group[-1]), min(len(tokens) for tokens in group) - 1)


def saved_by_sharing(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens need not be computed."""
    groups = [[prompts[index] for index in group] for group in groups_by_prefix(prompts)]
    return sum((len(group) - 1) * prefix_length(group) for group in groups)


def fill_shared(
    model: Any, prompts: Sequence[Sequence[int]], pad: int, cache: Any
) -> tuple[list[int], torch.Tensor]:
    """Fill an empty cache with what groups of prompts share, computed once a group.

    A layer with a sliding window or a state counts places, not positions: there nothing is shared.

    Returns:
        How many tokens of each prompt the cache holds, and the mask over them, int64 [batch, most].
    """
    groups = groups_by_prefix(prompts)
    lengths = [0] * len(prompts)
    if len(groups) == len(prompts) or not is_all_roomy(cache):
        return lengths, torch.ones(len(prompts), 0, dtype=torch.long, device=model.device)
    group_of = torch.empty(len(prompts), dtype=torch.long, device=model.device)
    heads = []
    for number, group in enumerate(groups):
        length = prefix_length([prompts[index] for index in group])
        heads.append(list(prompts[group[0]][:length]))
        group_of[torch.tensor(group)] = number
        for index in group:
            lengths[index] = length
    input_ids, mask = padded(heads, pad, model.device)
    model(
        input_ids=input_ids,
        attention_mask=mask,
        position_ids=positions(mask),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    cache.batch_select_indices(group_of)
    return lengths, mask[group_of]


def padded(
    prompts: Sequence[list[int]], pad: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Left-padded ids and mask, both [batch, longest]."""
    longest = max(len(tokens) for tokens in prompts)
    ids = [[pad] * (longest - len(tokens)) + tokens for tokens in prompts]
    ones = [[0] * (longest - len(tokens)) + [1] * len(tokens) for tokens in prompts]
    return torch.tensor(ids, device=device), torch.tensor(ones, device=device)


def positions(mask: torch.Tensor) -> torch.Tensor:
    """Each token's position among those that the mask keeps, [batch, length]."""
    return (mask.cumsum(1) - 1).clamp(min=0)
