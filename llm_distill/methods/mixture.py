"""How many rows of which part make a mixture, which ones, and what they are called. Pure."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from fractions import Fraction
from hashlib import sha256
from math import floor, isfinite
from typing import Any

from llm_distill.methods.seeds import derive_seed

FEWEST_DIGITS = 8
"""Of a content's digest, in a name: two contents of one id are mixed up once in 4·10^9 times."""


def part_counts(weights: Mapping[str, float], n: int) -> dict[str, int]:
    """How many of `n` rows each part gets, in proportion to its weight, by largest remainder.

    Each gets its share rounded down; what is left goes to the largest remainders, of equal ones to
    the name that comes first, so that the order of the parts does not matter. Hamilton's method.

    Raises:
        ValueError: there are no parts, a weight is negative, NaN or infinite, or all are 0.
    """
    bad = {part: weight for part, weight in weights.items() if not isfinite(weight) or weight < 0}
    if bad:
        said = ", ".join(f"{part}: {weight}" for part, weight in sorted(bad.items()))
        raise ValueError(f"{said}; a weight is a number, 0 or above")
    if not any(weights.values()):
        raise ValueError("every weight is 0, so there is nothing to draw; raise one above 0")
    # Exact: rounding must not decide between equal remainders.
    total = sum(Fraction(weight) for weight in weights.values())
    wanted = {part: n * Fraction(weight) / total for part, weight in weights.items()}
    counts = {part: floor(share) for part, share in wanted.items()}
    left = n - sum(counts.values())
    for part in sorted(wanted, key=lambda part: (counts[part] - wanted[part], part))[:left]:
        counts[part] += 1
    return counts


def times_drawn(
    ids: Sequence[str], parts: Sequence[str | None], counts: Mapping[str, int], seed: int
) -> list[int]:
    """How often each row is drawn; a part that is exhausted starts again.

    Every row of a part comes as often as every other, or once more: those that the seed ranks first
    by their ids, so the order of the rows does not matter.

    Args:
        ids: Of the rows, each once in a part.
        parts: Of each row; a row of none is not drawn.
        counts: By part, how many rows are wanted.
        seed: The same seed draws the same rows.

    Raises:
        KeyError: a part of `counts` has no rows, and some are wanted.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for index, part in enumerate(parts):
        if part is not None:
            members[part].append(index)
    times = [0] * len(ids)
    for part, count in counts.items():
        if not count:
            continue
        if part not in members:
            raise KeyError(part)
        often, more = divmod(count, len(members[part]))
        ranked = sorted(members[part], key=lambda i: (derive_seed(seed, "mix", ids[i]), ids[i]))
        for rank, index in enumerate(ranked):
            times[index] = often + (rank < more)
    return times


def content_digest(row: Mapping[str, Any], but: Iterable[str]) -> str:
    """64 hex digits of a row's content: columns that are null, and `but`, do not count.

    What a table does to a row does not change it: nulls for columns that others have, and 1.0 for 1
    where others have fractions.
    """
    left_out = set(but)
    whole = {name: value for name, value in row.items() if name not in left_out}
    text = json.dumps(_plain(whole), sort_keys=True, default=repr)
    return sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(v) for name, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def distinct_ids(rows: Sequence[tuple[str, str]]) -> list[str]:
    """An id for each row that rows of another content do not have.

    Different rows with the same id each get the beginning of their content's digest behind it, so a
    row's id does not depend on the order of rows. An id that only one content has stays as it is.

    Args:
        rows: (id, digest of the content in hex).
    """
    names = [identity for identity, _ in rows]
    digits = FEWEST_DIGITS
    while True:
        contents: dict[str, set[str]] = defaultdict(set)
        for name, (_, content) in zip(names, rows, strict=True):
            contents[name].add(content)
        clashing = {name for name, of_it in contents.items() if len(of_it) > 1}
        if not clashing:
            return names
        for index, name in enumerate(names):
            if name in clashing:
                names[index] = f"{name}-{rows[index][1][:digits]}"
        digits *= 2  # of two digests that begin alike


def first_of_each(keys: Sequence[Hashable], order: Sequence[str]) -> list[bool]:
    """Whether each is the one of its key that is kept: that whose `order` comes first."""
    best: dict[Hashable, int] = {}
    for index, key in enumerate(keys):
        if key not in best or order[index] < order[best[key]]:
            best[key] = index
    return [best[key] == index for index, key in enumerate(keys)]


def copy_ids(ids: Sequence[str], times: Sequence[int]) -> list[list[str]]:
    """The ids under which each row appears: its own, then `id-copy-2` and so on, if they are free.

    Args:
        ids: Of the rows; the same row may be there in several parts.
        times: How often each is drawn.
    """
    taken, numbers = set(ids), dict.fromkeys(ids, 0)
    found: list[list[str]] = []
    for identity, often in zip(ids, times, strict=True):
        names: list[str] = []
        while len(names) < often:
            numbers[identity] += 1
            name = identity if numbers[identity] == 1 else f"{identity}-copy-{numbers[identity]}"
            if name == identity or name not in taken:
                names.append(name)
        found.append(names)
    return found
