"""DDK's ρ against loops over tokens, and what must not change it."""

from __future__ import annotations

import math
import random

import pytest

from llm_distill.methods.perplexity_gap import Gap, ScoredText, common_unit, gap_of


def drawn(n: int, seed: int, *, alike: bool) -> tuple[list[ScoredText], list[list[float]]]:
    """Texts, and the student's and the teacher's log-probabilities of each, in turn."""
    draw = random.Random(seed)
    texts, logps = [], []
    for _ in range(n):
        n_tokens = draw.randint(1, 9)
        ours = [-draw.expovariate(1) for _ in range(n_tokens)]
        theirs = [-draw.expovariate(2) for _ in range(n_tokens if alike else n_tokens + 2)]
        texts.append(ScoredText(-sum(ours), -sum(theirs), len(ours), len(theirs), 3 * n_tokens + 1))
        logps += [ours, theirs]
    return texts, logps


def by_loops(logps: list[list[float]], sizes: tuple[int, int]) -> tuple[float, float]:
    """The perplexities as products of probabilities."""
    found = []
    for side, size in enumerate(sizes):
        product = 1.0
        for values in logps[side::2]:
            for value in values:
                product *= math.exp(value)
        found.append(product ** (-1 / size))
    return found[0], found[1]


@pytest.mark.parametrize("unit", ["token", "byte"])
@pytest.mark.parametrize("alike", [True, False])
def test_it_is_the_ratio_of_both_perplexities(unit, alike) -> None:
    texts, logps = drawn(6, 3, alike=alike)
    sizes = tuple(sum(text.sizes(unit)[side] for text in texts) for side in (0, 1))
    student, teacher = by_loops(logps, sizes)
    found = gap_of(texts, unit)
    assert found.student == pytest.approx(student)
    assert found.teacher == pytest.approx(teacher)
    assert found.ratio == pytest.approx(student / teacher)
    assert found.n_units == sizes[0]
    assert common_unit(texts) == ("token" if alike else "byte")


def test_equal_models_have_a_ratio_of_one() -> None:
    texts = [ScoredText(2.5, 2.5, 4, 4, 20), ScoredText(1.0, 1.0, 2, 2, 9)]
    assert gap_of(texts, "token") == Gap(math.exp(3.5 / 6), math.exp(3.5 / 6), 1, 1, 1, 6)


def test_a_text_counts_as_it_is_long_and_pieces_count_as_the_whole() -> None:
    whole = ScoredText(6.0, 3.0, 6, 6, 30)
    pieces = [ScoredText(1.0, 0.5, 2, 2, 10), ScoredText(5.0, 2.5, 4, 4, 20)]
    assert gap_of(pieces, "byte").ratio == pytest.approx(gap_of([whole], "byte").ratio)
    mean_of_ratios = (math.exp(0.25) + math.exp(2.5 / 4)) / 2
    assert gap_of(pieces, "token").ratio != pytest.approx(mean_of_ratios, rel=1e-3)


def test_the_interval_holds_the_ratio_and_narrows_with_texts() -> None:
    few, many = (gap_of(drawn(n, 1, alike=True)[0], "token") for n in (8, 800))
    for found in (few, many):
        assert found.low is not None
        assert found.high is not None
        assert found.low < found.ratio < found.high
    assert many.high - many.low < 0.3 * (few.high - few.low)
    texts, _ = drawn(8, 1, alike=True)
    assert gap_of(texts[:1], "token").low is None
    assert gap_of(drawn(8, 1, alike=False)[0], "token").low is None


def test_what_has_no_perplexity() -> None:
    for bad in (1e4, math.inf, math.nan):
        with pytest.raises(ValueError, match="no number"):
            gap_of([ScoredText(bad, 1.0, 1, 1, 1)], "token")
    with pytest.raises(ValueError, match="its texts have no byte"):
        gap_of([ScoredText(1.0, 1.0, 1, 1, 0)], "byte")
    with pytest.raises(ValueError, match="no token"):
        gap_of([], "token")
