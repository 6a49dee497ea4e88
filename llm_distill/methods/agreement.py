"""How far annotators agree with each other, and a student with its teacher.

The figures for labels are computed from a table: how often each combination of labels occurs, with
one label per annotator, None if it gave none. So the order of the items cannot matter.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations, permutations
from math import isclose, log2, sqrt
from statistics import fmean
from typing import Literal

from llm_distill.methods.statistics import Estimate

Label = str | float
Table = Mapping[tuple[Label | None, ...], int]
Level = Literal["nominal", "ordinal", "interval"]

DRAWS = 1000
"""Bootstrap samples of an interval."""


def tabulate(*annotators: Sequence[Label | None]) -> Table:
    """How often each combination occurs; of each annotator a label per item, in the same order."""
    return Counter(zip(*annotators, strict=True))


def labelled(table: Table) -> int:
    """How many items have labels of at least two annotators."""
    return sum(n for labels, n in table.items() if len(_given(labels)) >= 2)


def percentage_agreement(table: Table) -> float | None:
    """The share of equal labels among items with two, 0 to 1; None if there are no such items."""
    both = _both(table)
    n = sum(both.values())
    return sum(count for (a, b), count in both.items() if a == b) / n if n else None


def cohen_kappa(table: Table) -> float | None:
    """Cohen's κ (1960): agreement of two annotators beyond chance, at most 1; 0 is chance.

    κ = (p_o − p_e) / (1 − p_e) over the items that both labelled; p_e is the agreement of two
    annotators who draw labels at random as often as these two gave them. None if it is undefined:
    there are no such items, or both gave every item one and the same label.
    """
    both = _both(table)
    n = sum(both.values())
    first: Counter[Label] = Counter()
    second: Counter[Label] = Counter()
    for (a, b), count in both.items():
        first[a] += count
        second[b] += count
    by_chance = sum(first[label] * second[label] for label in first)  # n² p_e
    if by_chance == n * n:
        return None
    equal = sum(count for (a, b), count in both.items() if a == b)
    return (n * equal - by_chance) / (n * n - by_chance)


def weighted_kappa(table: Table) -> float | None:
    """Cohen's κ (1968) of grades, at most 1; 0 is chance. Grades near each other agree in part.

    1 − observed / expected disagreement, which is the squared distance of two grades ("quadratic
    weights"), over the items that both graded. Expected: of all pairs of the one's grades with the
    other's. None if it is undefined: there are no such items, or both gave one and the same grade.
    """
    both = _both(table)
    n = sum(both.values())
    observed = sum(count * (float(a) - float(b)) ** 2 for (a, b), count in both.items())
    first: Counter[float] = Counter()
    second: Counter[float] = Counter()
    for (a, b), count in both.items():
        first[float(a)] += count
        second[float(b)] += count
    expected = sum(m * k * (a - b) ** 2 for a, m in first.items() for b, k in second.items())
    return 1 - n * observed / expected if expected else None


def krippendorff_alpha(table: Table, level: Level = "nominal") -> float | None:
    """Krippendorff's α of any number of annotators, at most 1; 0 is chance.

    Items with fewer than two labels are left out. As in "Computing Krippendorff's
    Alpha-Reliability" (2011): 1 − observed / expected disagreement from the coincidences of
    labels; two labels disagree by 1 (nominal), by their squared distance (interval), or by that
    of their ranks (ordinal). None if it is undefined: fewer than two different labels. Labels are
    numbers unless the level is nominal.
    """
    together: defaultdict[tuple[Label, Label], float] = defaultdict(float)
    totals: defaultdict[Label, float] = defaultdict(float)
    for labels, count in table.items():
        given = _given(labels)
        for a, b in permutations(given, 2):
            together[a, b] += count / (len(given) - 1)
            totals[a] += count / (len(given) - 1)
    if len(totals) < 2:
        return None
    n = sum(totals.values())
    if level == "nominal":
        observed = sum(share for (a, b), share in together.items() if a != b)
        expected = n * n - sum(total * total for total in totals.values())
    else:
        at = _ranks(totals) if level == "ordinal" else {x: float(x) for x in totals}
        observed = sum(share * (at[a] - at[b]) ** 2 for (a, b), share in together.items())
        mean = sum(total * at[x] for x, total in totals.items()) / n
        expected = 2 * n * sum(total * (at[x] - mean) ** 2 for x, total in totals.items())
    return 1 - (n - 1) * observed / expected


def gap_to_people(table: Table, people: Sequence[int], level: Level = "nominal") -> float | None:
    """Mean α of the first annotator with each of `people`, less their mean α with each other.

    0: it agrees with them as they do among themselves; below: less. None where an α is undefined.
    Both are over the items that the first annotator labelled: else it could choose the easy ones.

    people: places of two or more annotators in the table's combinations, without 0.
    """
    with_it, among = alphas_with_people(labelled_by_first(table), people, level)
    return None if with_it is None or among is None else with_it - among


def alphas_with_people(
    table: Table, people: Sequence[int], level: Level = "nominal"
) -> tuple[float | None, float | None]:
    """The two means of `gap_to_people`."""

    def mean(pairs: Iterable[tuple[int, int]]) -> float | None:
        found = [krippendorff_alpha(_of(table, pair), level) for pair in pairs]
        known = [alpha for alpha in found if alpha is not None]
        return fmean(known) if len(known) == len(found) else None

    return mean((0, person) for person in people), mean(combinations(people, 2))


def labelled_by_first(table: Table) -> Table:
    """Of the items that the first annotator labelled."""
    return Counter({labels: n for labels, n in table.items() if labels[0] is not None})


def _of(table: Table, pair: tuple[int, int]) -> Table:
    """The same for two of the annotators."""
    found: Counter[tuple[Label | None, ...]] = Counter()
    for labels, n in table.items():
        found[labels[pair[0]], labels[pair[1]]] += n
    return found


def one_label(table: Table, label: Label) -> Table:
    """Whether it is this label or another."""
    found: Counter[tuple[Label | None, ...]] = Counter()
    for labels, n in table.items():
        found[tuple(None if given is None else str(given == label) for given in labels)] += n
    return found


def label_loyalty(table: Table) -> float | None:
    """The accuracy of the second annotator, a student, against the first, its teacher.

    Xu et al. 2021, "Beyond Preserved Accuracy", EMNLP. Over the items that the teacher labelled;
    one that the student left out is a miss. None if there are no such items.
    """
    taught = labelled_by_first(table)
    n = sum(taught.values())
    return sum(count for (a, b), count in taught.items() if a == b) / n if n else None


def probability_loyalty(teacher: Sequence[float], student: Sequence[float]) -> float:
    """1 − √JSD of the two distributions over one item's labels: 1 equal, 0 nothing in common.

    Xu et al. 2021 (as above). Logarithms are to base 2, so that it lies in 0 to 1.

    Raises:
        ValueError: they differ in length, or one is not a distribution.
    """
    if len(teacher) != len(student):
        raise ValueError(f"{len(teacher)} probabilities on one side, {len(student)} on the other")
    for probabilities in (teacher, student):
        sums_to_one = isclose(sum(probabilities), 1, abs_tol=1e-3)
        if not sums_to_one or not all(0 <= p <= 1 for p in probabilities):
            raise ValueError(f"{list(probabilities)} are not probabilities that add up to 1")
    divergence = 0.0
    for p, q in zip(teacher, student, strict=True):
        middle = (p + q) / 2
        divergence += sum(x * log2(x / middle) / 2 for x in (p, q) if x > 0)
    return 1 - sqrt(min(1.0, max(0.0, divergence)))  # rounding may leave it just outside


def estimate(figure: Callable[[Table], float | None], table: Table) -> Estimate | None:
    """The figure with its percentile bootstrap interval over items; None if it is undefined.

    To draw items with replacement is to draw the counts of the table from a multinomial. Draws in
    which the figure is undefined are left out.
    """
    import numpy as np

    value = figure(table)
    if value is None:
        return None
    rows = sorted(table, key=repr)  # the same interval in whatever order the items came
    counts = np.array([table[labels] for labels in rows])
    random = np.random.default_rng(0)
    values = []
    for _ in range(DRAWS):
        drawn = random.multinomial(counts.sum(), counts / counts.sum()).tolist()
        chosen = {labels: n for labels, n in zip(rows, drawn, strict=True) if n}
        values.append(figure(chosen))
    low, high = np.quantile([v for v in values if v is not None] or [value], (0.025, 0.975))
    return Estimate(value, float(low), float(high))


def _given(labels: tuple[Label | None, ...]) -> list[Label]:
    return [label for label in labels if label is not None]


def _both(table: Table) -> dict[tuple[Label, Label], int]:
    return {(a, b): n for (a, b), n in table.items() if a is not None and b is not None}


def _ranks(totals: Mapping[Label, float]) -> dict[Label, float]:
    """Each label's mean rank among all that were given."""
    ranks: dict[Label, float] = {}
    below = 0.0
    for label in sorted(totals, key=float):
        ranks[label] = below + totals[label] / 2
        below += totals[label]
    return ranks
