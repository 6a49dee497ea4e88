"""Ranks and likeliest tokens from what vLLM says of a place."""

from __future__ import annotations

from llm_distill.engines.base import ScoreRequest
from llm_distill.engines.codec import ScoredTokens
from llm_distill.engines.scored import n_likeliest, score_of


def scored(ranks: int, top_k: int) -> ScoredTokens:
    request = ScoreRequest("a", [9], [4, 5, 7, 6], ranks=ranks, top_k=top_k)
    return ScoredTokens(request, [9, 4, 5, 7, 6], 1)


def test_tokens_that_are_as_likely_share_the_better_rank() -> None:
    """VLLM tells the worse: with tokens of -1, -2, -2 and -3 that of both -2 is 3."""
    place = {7: -2.0, 4: -1.0, 5: -2.0, 6: -3.0}
    found = score_of(scored(ranks=9, top_k=2), [place] * 4)
    assert found.token_ids == (4, 5, 7, 6)
    assert found.logprobs == (-1.0, -2.0, -2.0, -3.0)
    assert found.ranks == (1, 2, 2, 4)
    assert found.top_ids == (4, 5) * 4
    assert found.top_logprobs == (-1.0, -2.0) * 4
    assert score_of(scored(ranks=3, top_k=0), [place] * 4).ranks == (1, 2, 2, 3)
    assert score_of(scored(ranks=0, top_k=0), [place] * 4).ranks == ()


def test_as_many_are_asked_for_as_either_needs() -> None:
    assert [n_likeliest(scored(*of)) for of in ((0, 0), (1, 0), (5, 2), (2, 7))] == [0, 0, 4, 7]
