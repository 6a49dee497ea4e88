"""paired_perplexity: against the sums written out."""

from __future__ import annotations

from math import exp

import pytest

from llm_distill.methods.paired_perplexity import Continued, gap, perplexity, win


def test_long_texts_weigh_more_in_the_perplexity() -> None:
    texts = [Continued(2.0, 1), Continued(9.0, 9)]
    found = perplexity(texts)
    assert found.value == pytest.approx(exp(11 / 10))
    assert exp(1) <= found.low <= found.value <= found.high <= exp(2)
    one = perplexity(texts[:1])
    assert (one.low, one.value, one.high) == pytest.approx((exp(2),) * 3)


def test_gaps_and_wins_are_by_token() -> None:
    long, short = Continued(20.0, 20), Continued(6.0, 4)
    assert gap(long, short) == pytest.approx(0.5)
    assert gap(short, long) == pytest.approx(-0.5)
    assert (win(long, short), win(short, long), win(long, Continued(2.0, 2))) == (1, 0, 0.5)
