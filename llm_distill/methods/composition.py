"""What a choice of rows prefers: each value's share among the chosen beside its share in the pool.

Such as: of 160 seeds 18 are subtraction; of the 16 that a score chose, 9 are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import comb

from llm_distill.methods.statistics import wilson_interval


@dataclass(frozen=True)
class Preference:
    """A value among the chosen rows and in the pool.

    Attributes:
        value: of a column.
        n_pool: rows of the pool that have it.
        n_chosen: different rows among the chosen that have it.
        share_of_pool: what a random choice has on average.
        precision: its share of the chosen, 0 to 1.
        low: lower end of the 95 % interval of `precision` (Wilson).
        high: upper end.
        recall: the share of the pool's rows that were chosen, 0 to 1.
        p_value: the chance that as many random rows have it at least as often.
        is_preferred: p_value is below 0.05 divided by the number of values that were looked at.
    """

    value: str
    n_pool: int
    n_chosen: int
    share_of_pool: float
    precision: float
    low: float
    high: float
    recall: float
    p_value: float
    is_preferred: bool


def preferences(
    values: Mapping[str, Collection[str]], chosen: Collection[str], level: float = 0.05
) -> list[Preference]:
    """Each value of the pool, the most common first, then by name.

    A row may have several values, such as the skills of a question, so shares may add up to more
    than 1. The test is Fisher's exact one, one-sided; with several values Bonferroni's correction
    keeps the chance of one false find below `level`.

    Args:
        values: by the id of each row of the pool, its values.
        chosen: ids of rows of the pool; a row that was chosen twice is one.
        level: of the test, for all values together.

    Raises:
        ValueError: nothing is chosen, or what is not in the pool.
    """
    ids = set(chosen)
    if not ids or not ids <= values.keys():
        raise ValueError(
            f"{len(ids - values.keys())} of {len(ids)} chosen rows are not in the pool"
        )
    having: dict[str, set[str]] = {}
    for identity, own in values.items():
        for value in own:
            having.setdefault(value, set()).add(identity)
    found = []
    for value, there in sorted(having.items(), key=lambda item: (-len(item[1]), item[0])):
        n_chosen = len(there & ids)
        precision = wilson_interval(n_chosen, len(ids))
        p_value = hypergeometric_tail(n_chosen, len(ids), len(there), len(values))
        found.append(
            Preference(
                value=value,
                n_pool=len(there),
                n_chosen=n_chosen,
                share_of_pool=len(there) / len(values),
                precision=precision.value,
                low=precision.low,
                high=precision.high,
                recall=n_chosen / len(there),
                p_value=p_value,
                is_preferred=p_value < level / len(having),
            )
        )
    return found


def hypergeometric_tail(at_least: int, drawn: int, marked: int, total: int) -> float:
    """The chance that of `drawn` rows without replacement `at_least` or more are marked.

    Σ C(marked, x)·C(total − marked, drawn − x) / C(total, drawn) over x ≥ at_least.

    Raises:
        ValueError: more is drawn or marked than there is.
    """
    if not (0 <= drawn <= total and 0 <= marked <= total):
        raise ValueError(f"{drawn} drawn and {marked} marked of {total} rows")
    ways = sum(
        comb(marked, x) * comb(total - marked, drawn - x)
        for x in range(max(at_least, 0), min(drawn, marked) + 1)
    )
    return ways / comb(total, drawn)
