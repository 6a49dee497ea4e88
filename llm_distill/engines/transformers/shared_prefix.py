"""Prompts that begin alike, so that what they share is computed once.

Worked examples and instructions are often the same in all prompts but for the last question.
"""

from __future__ import annotations

from collections.abc import Sequence

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
