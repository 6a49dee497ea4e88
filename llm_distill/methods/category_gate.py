"""Whether a category is labelled reliably: kappa of people, and of a model with people. Pure.

The question of SIGHT (Wang et al. 2023, arXiv 2306.09343): which yes-or-no categories may a model
label at scale? There a category is chosen by its kappa alone; here by the lower end of an interval,
since a rare category has a high kappa by luck.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from statistics import fmean
from typing import Any

from llm_distill.methods.agreement import cohen_kappa, tabulate
from llm_distill.methods.statistics import Estimate

DRAWS = 4000
"""Bootstrap samples; their seed is fixed."""
CELL = 0.5
"""Items that are added to each cell of a pair's table before items are drawn."""
WIDE = 0.3
"""An interval wider than this says little."""


@dataclass(frozen=True)
class CategoryKappas:
    """Of one category.

    Attributes:
        people: Mean kappa of each two of the people, with its interval; None if one is undefined.
        model: Mean kappa of the model with each of them.
        n: Items that all have labelled.
        n_positive: Items that one of the people or more says yes to.
        undefined: The share of the draws in which a kappa is undefined, and counts as 0.
    """

    people: Estimate | None
    model: Estimate | None
    n: int
    n_positive: int
    undefined: float

    def passes(self, above_people: float, above_model: float) -> bool:
        """Whether both lower ends are above these."""
        return (
            self.people is not None
            and self.model is not None
            and self.people.low > above_people
            and self.model.low > above_model
        )

    @property
    def is_wide(self) -> bool:
        """Whether an interval is too wide to say much."""
        known = [each for each in (self.people, self.model) if each is not None]
        return any(each.high - each.low > WIDE for each in known)


def one_against_rest(
    labels: Sequence[Sequence[Collection[str]]],
) -> dict[str, list[list[bool]]]:
    """Each label as a category of its own: whether an annotator gives it to an item, or not.

    Args:
        labels: Of each annotator, in the same order of the items, the labels that it gives: one,
            several or none.

    Returns:
        By label, in the order of the alphabet, [annotators][items]. The same but for case and
        white space is one label, called as it is first written.
    """
    keys = [[{_key(label) for label in given} for given in each] for each in labels]
    names: dict[str, str] = {}
    for each in labels:
        for given in each:
            for label in given:
                names.setdefault(_key(label), label.strip())
    return {
        names[key]: [[key in given for given in each] for each in keys] for key in sorted(names)
    }


def _key(label: str) -> str:
    return label.strip().casefold()


def category_kappas(model: Sequence[bool], people: Sequence[Sequence[bool]]) -> CategoryKappas:
    """The kappas of a category with 95 % intervals by bootstrap over items.

    Where no item is disagreed on, or hardly any is positive, items that are drawn from those there
    are agree as well, and a plain bootstrap has no width: of two positives that all agree on it
    says 1 to 1. So each draw is from the counts with half an item more in each of the four cells of
    every pair's table (as Jeffreys' prior has it), as many as there are items. A draw in which a
    kappa is undefined, since nobody says yes or all do, counts as one of 0.

    Args:
        model: Whether it says yes, of each item.
        people: The same of two people or more, in the same order of the items.

    Raises:
        ValueError: there are no items, fewer than two people, or they differ in length.
    """
    annotators = [list(model), *map(list, people)]
    n = len(annotators[0])
    if len(people) < 2 or not n or len({len(each) for each in annotators}) > 1:
        raise ValueError("kappas of a category need items, and each with two people's labels")
    among = list(combinations(range(1, len(annotators)), 2))
    with_model = [(0, person) for person in range(1, len(annotators))]
    drawn, undefined = _drawn_kappas(annotators, [*among, *with_model])
    by_pair = {pair: _kappa(annotators, pair) for pair in (*among, *with_model)}

    def estimate(pairs: Sequence[tuple[int, int]]) -> Estimate | None:
        import numpy as np

        found = [kappa for pair in pairs if (kappa := by_pair[pair]) is not None]
        if len(found) < len(pairs):
            return None
        low, high = np.quantile(np.mean([drawn[pair] for pair in pairs], axis=0), (0.025, 0.975))
        value = fmean(found)
        return Estimate(value, min(value, float(low)), max(value, float(high)))

    positive = sum(map(any, zip(*annotators[1:], strict=True)))
    return CategoryKappas(estimate(among), estimate(with_model), n, positive, undefined)


def _kappa(annotators: Sequence[Sequence[bool]], pair: tuple[int, int]) -> float | None:
    first, second = ([float(label) for label in annotators[place]] for place in pair)
    return cohen_kappa(tabulate(first, second))


def _drawn_kappas(
    annotators: Sequence[Sequence[bool]], pairs: Sequence[tuple[int, int]]
) -> tuple[dict[tuple[int, int], Any], float]:
    """Of each pair its kappa in each draw, [DRAWS]; and the share of draws without one.

    The same items are drawn for all pairs.
    """
    import numpy as np

    cells = np.array(list(product((False, True), repeat=len(annotators))))
    counts = Counter(zip(*annotators, strict=True))
    added = CELL * 4 / len(cells)  # so that each cell of a pair's table has CELL more
    weights = np.array([counts[tuple(cell)] + added for cell in cells.tolist()])
    n = len(annotators[0])
    draws = np.random.default_rng(0).multinomial(n, weights / weights.sum(), size=DRAWS)
    found: dict[tuple[int, int], Any] = {}
    no_kappa = np.zeros(DRAWS, dtype=bool)
    for first, second in pairs:
        a, b = cells[:, first], cells[:, second]
        observed = draws @ (a == b) / n
        p, q = draws @ a / n, draws @ b / n
        chance = p * q + (1 - p) * (1 - q)
        undefined = chance >= 1 - 1e-12
        no_kappa |= undefined
        below = np.where(undefined, 1.0, 1 - chance)
        found[first, second] = np.where(undefined, 0.0, (observed - chance) / below)
    return found, float(no_kappa.mean())
