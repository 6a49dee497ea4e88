"""The losses over spans as their papers and code have them, in loops over tokens and vocabularies.

A side of a span is what a model says at its tokens: [(logits over the vocabulary, the token), …].
"""

from __future__ import annotations

from typing import Any

import torch

Span = list[tuple[torch.Tensor, int]]


def merged(span: Span) -> list[Any]:
    """GOLD's `bayesian`: the last place's distribution, times the tokens before."""
    factor: Any = 1.0
    for logits, token in span[:-1]:
        factor = factor * logits.softmax(-1)[token].clamp(min=1e-8)
    return [factor * p for p in span[-1][0].softmax(-1)]


def by_rank(ours: list[Any], theirs: list[Any]) -> Any:
    ours, theirs = (sorted(side, key=lambda p: -p.item()) for side in (ours, theirs))
    total: Any = 0.0
    for rank in range(max(len(ours), len(theirs))):
        a = ours[rank] if rank < len(ours) else torch.zeros(())
        b = theirs[rank] if rank < len(theirs) else torch.zeros(())
        total = total + (a - b).abs()
    return total


def uld(teacher: Span, student: Span) -> Any:
    return by_rank(merged(teacher), merged(student))


def gold(teacher: Span, student: Span, pairs: dict[int, int], beta: float) -> Any:
    """pairs: from the student's tokens to the teacher's."""
    p, q = merged(teacher), merged(student)
    matched: Any = 0.0
    for ours, theirs in pairs.items():
        a, b = p[theirs].clamp(min=1e-8), q[ours].clamp(min=1e-8)
        m = beta * a + (1 - beta) * b
        matched = matched + beta * a * (a / m).log() + (1 - beta) * b * (b / m).log()
    rest = by_rank(
        [x for token, x in enumerate(p) if token not in pairs.values()],
        [x for token, x in enumerate(q) if token not in pairs],
    )
    weight = len(pairs) / len(p)
    return weight * matched + (1 - weight) * rest


def geometric(span: Span) -> list[Any]:
    places = [logits.log_softmax(-1) for logits, _ in span]
    return [sum(place[token] for place in places) / len(places) for token in range(len(places[0]))]


def p_kl(teacher: Span, student: Span, edges: dict[tuple[int, int], float]) -> Any:
    p = geometric(teacher)
    q: list[Any] = [torch.zeros(()) for _ in p]
    for logits, _ in student:
        probabilities = logits.softmax(-1)
        for (ours, theirs), weight in edges.items():
            q[theirs] = q[theirs] + weight * probabilities[ours] / len(student)
    total = sum(q)
    return sum(
        a.exp() * (a - (b / (total + 1e-10) + 1e-10).log()) for a, b in zip(p, q, strict=True)
    )


def h_kl(teacher: Span, student: Span, near: dict[int, int]) -> Any:
    p, q = geometric(teacher), geometric(student)
    matched: Any = sum(p[b].exp() * (p[b] - q[a]) for a, b in near.items())
    return matched + by_rank(
        [x.exp() for token, x in enumerate(p) if token not in near.values()],
        [x.exp() for token, x in enumerate(q) if token not in near],
    )


def simct(teacher: Span, student: Span, pairs: dict[int, int], scores: str = "logps") -> Any:
    is_token = len(teacher) == len(student) == 1 and pairs.get(student[0][1]) == teacher[0][1]

    def distribution(span: Span, tokens: list[int]) -> torch.Tensor:
        places = [logits.log_softmax(-1) if scores == "logps" else logits for logits, _ in span]
        found = [places[0][token] for token in tokens]
        if not is_token:
            own = [place[token] for place, (_, token) in zip(places, span, strict=True)]
            found.append(sum(own) / len(own))
        return torch.stack(found).softmax(0)

    p, q = distribution(teacher, [*pairs.values()]), distribution(student, [*pairs])
    return sum(b * (b / a).log() for a, b in zip(p, q, strict=True))
