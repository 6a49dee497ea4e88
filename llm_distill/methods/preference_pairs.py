"""Preference pairs from scores: texts that help the student over those that do not.

ARTE (arXiv 2406.19227): a question of the top quantile by s_q against one of the bottom quantile,
and for each question the rationale with the highest s_r against the one with the lowest. Scores are
multiples of 1 / number of items, so ties are common, and a pair without a margin says nothing. Ties
are broken at random by id: taking the first candidate would prefer the strategy asked first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from llm_distill.methods.seeds import derive_seed

MIN_QUESTIONS = 4
ROUNDING = 1e-9  # 0.3 - 0.2 is a little less than 0.1


@dataclass(frozen=True)
class ScoredText:
    """A text to compare, with an id of its own.

    score: the higher, the more it is preferred, in any unit; in ARTE the student's mean accuracy
        with the text in its context, in [0, 1].
    """

    id: str
    score: float
    text: str


@dataclass(frozen=True)
class Pair:
    """Two texts with chosen.score > rejected.score; their margin is the difference."""

    chosen: ScoredText
    rejected: ScoredText

    @property
    def margin(self) -> float:
        return self.chosen.score - self.rejected.score


@dataclass
class Pairs:
    """The pairs, and counts of the reasons why others were not built."""

    pairs: list[Pair] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)

    def consider(self, pair: Pair, min_margin: float) -> None:
        """Keep the pair, or count why not."""
        if pair.margin <= ROUNDING:
            self.dropped["no margin"] += 1
        elif pair.margin < min_margin - ROUNDING:
            self.dropped["margin below min_margin"] += 1
        elif pair.chosen.text.strip() == pair.rejected.text.strip():
            self.dropped["identical texts"] += 1
        else:
            self.pairs.append(pair)


def question_pairs(
    questions: Sequence[ScoredText], *, quantile: float, limit: int, min_margin: float, seed: int
) -> Pairs:
    """At most `limit` pairs of a question of the top and one of the bottom `quantile`.

    No question is in both quantiles, no pair is built twice, and every question of a quantile is
    used about equally often. Fewer than 4 questions do not give a pair.

    Args:
        questions: of one task.
        quantile: the share of questions at either end, at least one and at most half of them.
        limit: the most pairs.
        min_margin: a smaller margin is dropped and counted.
        seed: of ties and draws.
    """
    found = Pairs()
    if len(questions) < MIN_QUESTIONS:
        found.dropped["fewer than 4 questions"] += 1
        return found
    ranked = sorted(questions, key=lambda q: (q.score, derive_seed(seed, "tie", q.id)))
    size = min(max(1, int(len(ranked) * quantile)), len(ranked) // 2)
    for pair in _crossed(ranked[-size:], ranked[:size], seed):
        if len(found.pairs) == limit:
            break
        found.consider(pair, min_margin)
    return found


def rationale_pairs(
    groups: Mapping[str, Sequence[ScoredText]], *, limit: int, min_margin: float, seed: int
) -> Pairs:
    """For each question its best against its worst rationale, at most `limit` drawn at random.

    Args:
        groups: the scored rationales by question id. A question with a single one has no pair.
        limit: the most pairs.
        min_margin: a smaller margin is dropped and counted.
        seed: of ties and draws.
    """
    found = Pairs()
    for members in groups.values():
        if len(members) < 2:
            found.dropped["fewer than 2 scored rationales"] += 1
            continue
        ranked = sorted(members, key=lambda r: (r.score, derive_seed(seed, "tie", r.id)))
        found.consider(Pair(ranked[-1], ranked[0]), min_margin)
    if len(found.pairs) > limit:
        found.dropped["over the limit"] += len(found.pairs) - limit
        drawn = sorted(found.pairs, key=lambda p: derive_seed(seed, "draw", p.chosen.id))[:limit]
        kept = {pair.chosen.id for pair in drawn}
        found.pairs = [pair for pair in found.pairs if pair.chosen.id in kept]
    return found


def _crossed(top: Sequence[ScoredText], bottom: Sequence[ScoredText], seed: int) -> Iterator[Pair]:
    """Every pair of the two once, in rounds that use each of them once."""
    first = sorted(top, key=lambda q: derive_seed(seed, "draw", q.id))
    second = sorted(bottom, key=lambda q: derive_seed(seed, "draw", q.id))
    for shift in range(len(second)):
        for index, chosen in enumerate(first):
            yield Pair(chosen, second[(index + shift) % len(second)])
