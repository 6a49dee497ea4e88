"""Parts that do not overlap, of the sizes asked for, fair by strata and whole by groups."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_distill.methods.splits import part_sizes, split_rows

IDS = [f"row-{number}" for number in range(1000)]


@given(st.integers(0, 5000), st.lists(st.floats(0.01, 0.3), min_size=1, max_size=3))
def test_shares_and_the_rest_add_up(total: int, shares: list[float]) -> None:
    parts: dict[str, float | None] = {str(index): share for index, share in enumerate(shares)}
    sizes = part_sizes({**parts, "rest": None}, total)
    assert sum(sizes.values()) == total
    assert all(abs(sizes[name] - total * share) <= 1 for name, share in parts.items() if share)


def test_numbers_of_rows_are_met() -> None:
    assert part_sizes({"test": 200, "train": None}, 1000) == {"test": 200, "train": 800}
    assert part_sizes({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, 10) == {"a": 3, "b": 4, "c": 3}
    with pytest.raises(ValueError, match="1001 rows are wanted and there are 1000"):
        part_sizes({"test": 1001, "train": None}, 1000)


def test_rows_are_divided_whatever_their_order() -> None:
    sizes = {"train": 700, "test": 200}
    found = split_rows(IDS, sizes, seed=7)
    assert Counter(found) == {"train": 700, "test": 200, None: 100}
    shuffled = random.Random(1).sample(IDS, len(IDS))
    again = dict(zip(shuffled, split_rows(shuffled, sizes, seed=7), strict=True))
    assert [again[identity] for identity in IDS] == found
    assert split_rows(IDS, sizes, seed=8) != found


def test_every_part_has_its_share_of_every_stratum() -> None:
    strata = ["common" if n % 10 else "rare" for n in range(len(IDS))]
    found = split_rows(IDS, {"train": 800, "test": 200}, 3, strata)
    assert Counter(found) == {"train": 800, "test": 200}
    counts = Counter(zip(found, strata, strict=True))
    assert abs(counts["test", "rare"] - 20) <= 1
    assert abs(counts["test", "common"] - 180) <= 1


def test_a_group_is_in_one_part() -> None:
    groups = [f"question {n // 7}" for n in range(len(IDS))]
    found = split_rows(IDS, {"train": 800, "test": 200}, 3, groups=groups)
    assert len(set(zip(groups, found, strict=True))) == len(set(groups))
    assert abs(Counter(found)["test"] - 200) <= 7


def test_parts_are_random_within_a_stratum() -> None:
    """Each row is equally likely to be in the test part."""
    hits: Counter[int] = Counter()
    for seed in range(400):
        found = split_rows(IDS[:40], {"test": 10, "train": 30}, seed, ["a", "b"] * 20)
        hits.update(index for index, part in enumerate(found) if part == "test")
    assert all(60 < hits[index] < 145 for index in range(40))
