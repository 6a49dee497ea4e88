"""Sets of worked examples, and which of them students answer best with.

Learning by Teaching, M3 (arXiv 2406.14629), as a local search: the paper's teacher writes whole
sets, here a set differs from the one before in one example.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from llm_distill.methods.examples import question_key
from llm_distill.methods.seeds import derive_seed
from llm_distill.rows.columns import Row

Right = Mapping[str, Sequence[bool]]
"""By the id of an item, whether each student was right."""


def with_one_replaced(examples: Sequence[Row], new: Row, seed: int) -> list[Row]:
    """A copy with the new example in the place of a random one."""
    place = derive_seed(seed, "place", new["id"]) % len(examples)
    return [new if index == place else example for index, example in enumerate(examples)]


def apart(items: Iterable[Row], sets: Iterable[Sequence[Row]]) -> list[Row]:
    """The items that none of the sets shows: sets are compared on the same, unseen ones."""
    shown = {question_key(example["question"]) for examples in sets for example in examples}
    return [item for item in items if question_key(item["question"]) not in shown]


def accuracy(right: Right, items: Iterable[Row]) -> float:
    """The mean over items and students."""
    return fmean(fmean(right[item["id"]]) for item in items)


def best(accuracies: Sequence[float]) -> int:
    """The index of the highest; of equals the first, so that a set without a gain is not taken."""
    return max(range(len(accuracies)), key=lambda index: accuracies[index])


def drawn_failures(failures: Sequence[Mapping[str, Any]], n: int, seed: int) -> list[Any]:
    """At most `n` random failures on different items."""
    ranked = sorted(failures, key=lambda f: derive_seed(seed, "failure", f["id"], f["completion"]))
    different: dict[str, Any] = {}
    for failure in ranked:
        different.setdefault(failure["id"], failure)
    return list(different.values())[:n]
