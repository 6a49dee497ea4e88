"""Preference pairs from scores: texts that help the student over those that do not.

ARTE (arXiv 2406.19227): a question of the top quantile by s_q against one of the bottom quantile,
and for each question the rationale with the highest s_r against the one with the lowest. Montessori
(arXiv 2410.14208): all candidates with a positive score against all with a negative one. Scores are
of any unit and sign; only differences count, and signs where they are asked for. A score from few
items has few values, so ties are common, and a pair without a margin says nothing. Ties are broken
at random by id: taking the first candidate would prefer the strategy asked first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

from llm_distill.methods.seeds import derive_seed

Pairing = Literal["best_worst", "all", "across_zero", "best_right_best_wrong"]
"""Which candidates of one question are paired."""

MIN_QUESTIONS = 4
ROUNDING = 1e-9  # 0.3 - 0.2 is a little less than 0.1; a share of the scores, whatever their unit


@dataclass(frozen=True)
class ScoredText:
    """A text to compare, with an id of its own.

    Attributes:
        score: the higher, the more it is preferred, in any unit.
        is_right: whether its answer is right; None if it was not compared with a reference.
    """

    id: str
    score: float
    text: str
    is_right: bool | None = None


@dataclass(frozen=True)
class Pair:
    """Two texts; their margin is the difference of their scores."""

    chosen: ScoredText
    rejected: ScoredText

    @property
    def margin(self) -> float:
        return self.chosen.score - self.rejected.score

    @property
    def rounding(self) -> float:
        """What a margin may be off by."""
        return ROUNDING * max(abs(self.chosen.score), abs(self.rejected.score))

    @property
    def texts_differ(self) -> bool:
        return self.chosen.text.strip() != self.rejected.text.strip()


@dataclass(frozen=True)
class Margins:
    """Which pairs have enough of a margin; equal scores are never a pair.

    Attributes:
        least: a smaller margin is dropped, in the unit of the scores.
        quantile: so large a share of the pairs, those with the smallest margins, is dropped.
    """

    least: float = 0.0
    quantile: float = 0.0


@dataclass
class Pairs:
    """The pairs, and counts of the reasons why others were not built."""

    pairs: list[Pair] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)

    def consider(self, pair: Pair, margins: Margins, cutoff: float) -> None:
        """Keep the pair, or count why not; `cutoff` is the margin at the quantile."""
        if pair.margin <= pair.rounding:
            self.dropped["no margin"] += 1
        elif pair.margin < margins.least - pair.rounding:
            self.dropped["margin below min_margin"] += 1
        elif pair.margin < cutoff - pair.rounding:
            self.dropped["margin below margin_quantile"] += 1
        elif not pair.texts_differ:
            self.dropped["identical texts"] += 1
        else:
            self.pairs.append(pair)


def question_pairs(
    questions: Sequence[ScoredText], *, quantile: float, limit: int, margins: Margins, seed: int
) -> Pairs:
    """At most `limit` pairs of a question of the top and one of the bottom `quantile`.

    No question is in both quantiles, no pair is built twice, and every question of a quantile is
    used about equally often. Fewer than 4 questions do not give a pair.

    Args:
        questions: of one task.
        quantile: the share of questions at either end, at least one and at most half of them.
        limit: the most pairs.
        margins: which pairs are dropped and counted.
        seed: of ties and draws.
    """
    found = Pairs()
    if len(questions) < MIN_QUESTIONS:
        found.dropped["fewer than 4 questions"] += 1
        return found
    ranked = _ranked(questions, seed)
    size = min(max(1, int(len(ranked) * quantile)), len(ranked) // 2)
    top, bottom = ranked[-size:], ranked[:size]
    cutoff = _cutoff(_crossed(top, bottom, seed), margins.quantile) if margins.quantile else 0.0
    for pair in _crossed(top, bottom, seed):
        if len(found.pairs) == limit:
            break
        found.consider(pair, margins, cutoff)
    return found


def candidate_pairs(
    groups: Mapping[str, Sequence[ScoredText]],
    *,
    pairing: Pairing = "best_worst",
    limit: int,
    per_group: int | None = None,
    margins: Margins,
    seed: int,
) -> Pairs:
    """Pairs of candidates for the same question, at most `limit` drawn at random.

    Args:
        groups: the scored candidates by question id; of one task. A single one gives no pair.
        pairing: best_worst: the best against the worst. all: each against each that is worse.
            across_zero: each above zero against each below. best_right_best_wrong: the best of the
            right ones against the best of the wrong ones, whatever their margin.
        limit: the most pairs.
        per_group: the most pairs of one question.
        margins: which pairs are dropped and counted; not for best_right_best_wrong.
        seed: of ties and draws.
    """
    found = Pairs()
    built: list[list[Pair]] = []
    for members in groups.values():
        pairs = _pairs_of(members, pairing, seed) if len(members) > 1 else []
        if isinstance(pairs, str):
            found.dropped[pairs] += 1
        elif not pairs:
            found.dropped["fewer than 2 scored candidates"] += 1
        else:
            built.append(pairs)
    cutoff = _cutoff((pair for pairs in built for pair in pairs), margins.quantile)
    for pairs in built:
        own = Pairs()
        for pair in pairs:
            if pairing != "best_right_best_wrong":
                own.consider(pair, margins, cutoff)
            elif pair.texts_differ:
                own.pairs.append(pair)
            else:
                own.dropped["identical texts"] += 1
        found.dropped.update(own.dropped)
        if per_group is not None and len(own.pairs) > per_group:
            found.dropped["over the limit of a question"] += len(own.pairs) - per_group
            own.pairs = own.pairs[:per_group]
        found.pairs.extend(own.pairs)
    _draw(found, limit, seed)
    return found


def _pairs_of(members: Sequence[ScoredText], pairing: Pairing, seed: int) -> list[Pair] | str:
    """The pairs of one question, in the order in which they fill a limit; or why there are none."""
    ranked = _ranked(members, seed)
    if pairing == "best_worst":
        return [Pair(ranked[-1], ranked[0])]
    if pairing == "all":
        pairs = [Pair(better, worse) for worse, better in combinations(ranked, 2)]
        return sorted(pairs, key=lambda p: derive_seed(seed, "draw", p.chosen.id, p.rejected.id))
    if pairing == "across_zero":
        above = [member for member in ranked if member.score > 0]
        below = [member for member in ranked if member.score < 0]
        return list(_crossed(above, below, seed)) or "no score on one side of zero"
    right = [member for member in ranked if member.is_right]
    wrong = [member for member in ranked if not member.is_right]
    if not right or not wrong:
        return "no right candidate" if wrong else "no wrong candidate"
    return [Pair(right[-1], wrong[-1])]


def _draw(found: Pairs, limit: int, seed: int) -> None:
    """Keep `limit` random pairs, in their order."""
    if len(found.pairs) <= limit:
        return
    found.dropped["over the limit"] += len(found.pairs) - limit
    # The first pair of a text is drawn by that text's id alone.
    seen: Counter[str] = Counter()
    ranks = []
    for index, pair in enumerate(found.pairs):
        parts = (pair.chosen.id, pair.rejected.id)[: 1 + (seen[pair.chosen.id] > 0)]
        seen[pair.chosen.id] += 1
        ranks.append((derive_seed(seed, "draw", *parts), index))
    kept = sorted(index for _, index in sorted(ranks)[:limit])
    found.pairs = [found.pairs[index] for index in kept]


def _cutoff(pairs: Iterable[Pair], quantile: float) -> float:
    """The margin that the share `quantile` of the pairs with any margin is below."""
    margins = sorted(pair.margin for pair in pairs if pair.margin > pair.rounding)
    return margins[int(len(margins) * quantile)] if margins else 0.0


def _ranked(members: Iterable[ScoredText], seed: int) -> list[ScoredText]:
    """The worst first; equals in random order."""
    return sorted(members, key=lambda member: (member.score, derive_seed(seed, "tie", member.id)))


def _crossed(top: Sequence[ScoredText], bottom: Sequence[ScoredText], seed: int) -> Iterator[Pair]:
    """Every pair of the two once, in rounds that use each of them about equally often."""
    first = sorted(top, key=lambda q: derive_seed(seed, "draw", q.id))
    second = sorted(bottom, key=lambda q: derive_seed(seed, "draw", q.id))
    for shift in range(len(second)):
        for index, chosen in enumerate(first):
            yield Pair(chosen, second[(index + shift) % len(second)])
