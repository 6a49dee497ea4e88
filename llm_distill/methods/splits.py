"""Divide rows at random into parts, evenly by strata, with groups that stay together. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import accumulate

from llm_distill.methods.seeds import derive_seed


def part_sizes(parts: Mapping[str, float | None], total: int) -> dict[str, int]:
    """How many rows each part gets.

    Args:
        parts: Name to a share below 1, a number of rows, or None for all that the others leave.
        total: Rows in all; those of shares are rounded so that they add up.

    Raises:
        ValueError: More rows are wanted than there are.
    """
    shares = {name: size for name, size in parts.items() if size is not None and size < 1}
    ends = [round(total * share) for share in accumulate(shares.values())]
    by_share = {name: ends[i] - (ends[i - 1] if i else 0) for i, name in enumerate(shares)}
    sizes = {name: by_share.get(name, int(size or 0)) for name, size in parts.items()}
    left = total - sum(sizes.values())
    if left < 0:
        raise ValueError(f"{total - left} rows are wanted and there are {total}")
    return {name: left if parts[name] is None else size for name, size in sizes.items()}


def split_rows(
    ids: Sequence[str],
    sizes: Mapping[str, int],
    seed: int,
    strata: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
) -> list[str | None]:
    """The part of each row, by its id and not by its place; None for rows that no part wants.

    Args:
        ids: Of the rows, each once.
        sizes: Name to number of rows. With groups a size is met but for a part of a group.
        seed: The same seed gives the same parts.
        strata: A value for each row: parts have them in the same proportions, but for one row.
        groups: A value for each row: rows of one value come into one part. A group belongs to the
            stratum of most of its rows.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups or ids):
        members[group].append(index)
    by_stratum: dict[str, list[str]] = defaultdict(list)
    for group, rows in members.items():
        within = [strata[index] for index in rows] if strata else [""]
        by_stratum[max(sorted(set(within)), key=within.count)].append(group)
    placed: list[tuple[float, int, str]] = []
    for stratum, names in by_stratum.items():
        # Every stratum is spread evenly over [0, 1], so that any cut of it takes a fair share.
        names.sort(key=lambda name: (derive_seed(seed, "split", name), name))
        begin = derive_seed(seed, "stratum", stratum) / 2**31
        size = sum(len(members[name]) for name in names)
        for name in names:
            placed.append(((begin + len(members[name]) / 2) / (size + 1), len(placed), name))
            begin += len(members[name])
    found: list[str | None] = [None] * len(ids)
    ends = dict(zip(sizes, accumulate(sizes.values()), strict=True))
    before = 0
    for _, _, name in sorted(placed):
        middle = before + len(members[name]) / 2
        part = next((part for part, end in ends.items() if middle <= end), None)
        for index in members[name]:
            found[index] = part
        before += len(members[name])
    return found
