"""A score from what vLLM says of each place of a text, in process or over HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llm_distill.engines.base import Score
from llm_distill.engines.codec import ScoredTokens

MOST_ABOVE_ZERO = 1e-4
"""A log-probability may be as far above 0 as rounding puts it."""
Place = Mapping[int, float]
"""Log-probabilities of tokens at one place: of the text's own, and of the likeliest."""


def score_of(row: ScoredTokens, places: Sequence[Place]) -> Score:
    """The likelihood of each token of the completion; its rank and the likeliest, where asked for.

    places: of the completion's tokens, in order; each has the token itself, and as many of the
    likeliest as `n_likeliest` says.
    """
    tokens, asked = tuple(row.tokens[row.start :]), row.request
    own = tuple(place[token] for token, place in zip(tokens, places, strict=True))
    ranks: tuple[int, ...] = ()
    if asked.ranks:
        ranks = tuple(
            min(asked.ranks, _rank(logprob, place))
            for logprob, place in zip(own, places, strict=True)
        )
    top = [pair for place in places for pair in _likeliest(place, asked.top_k)]
    return Score(
        asked.id,
        tokens,
        own,
        row.start,
        ranks=ranks,
        top_ids=tuple(token for token, _ in top),
        top_logprobs=tuple(logprob for _, logprob in top),
    )


def n_likeliest(row: ScoredTokens) -> int:
    """How many of the likeliest tokens have to be asked for: for a rank up to n, n - 1."""
    return max(0, row.request.ranks - 1, row.request.top_k)


def _rank(own: float, place: Place) -> int:
    """1 + the number of tokens strictly likelier, among the likeliest that were asked for.

    vLLM's own `rank` also counts the tokens that are as likely, of which half precision has many.
    """
    return 1 + sum(other > own for other in place.values())


def _likeliest(place: Place, k: int) -> list[tuple[int, float]]:
    return sorted(place.items(), key=lambda pair: (-pair[1], pair[0]))[:k] if k else []
