"""Shares that add up, draws that do not depend on order, and ids that no two rows share."""

from __future__ import annotations

import random
from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_distill.methods.mixture import (
    content_digest,
    copy_ids,
    distinct_ids,
    first_of_each,
    part_counts,
    times_drawn,
)

WEIGHTS = st.dictionaries(st.text("abcdef", min_size=1), st.integers(0, 50), min_size=1)


@given(WEIGHTS.filter(lambda w: any(w.values())), st.integers(1, 1000))
def test_shares_by_largest_remainder(weights: dict[str, int], n: int) -> None:
    total = sum(weights.values())
    exact = {part: Fraction(n * weight, total) for part, weight in weights.items()}
    lower = {part: floor(share) for part, share in exact.items()}
    order = sorted(exact, key=lambda part: (lower[part] - exact[part], part))
    for part in order[: n - sum(lower.values())]:
        lower[part] += 1
    assert part_counts(weights, n) == lower


def test_shares_do_not_depend_on_order_or_scale() -> None:
    assert part_counts({"a": 1, "b": 1, "c": 1}, 10) == {"a": 4, "b": 3, "c": 3}
    assert part_counts({"c": 1, "b": 1, "a": 1}, 10) == {"a": 4, "b": 3, "c": 3}
    assert part_counts({"a": 1e308, "b": 1e308, "c": 0}, 5) == {"a": 3, "b": 2, "c": 0}
    assert part_counts({"a": 5e-324, "b": 0}, 3) == {"a": 3, "b": 0}
    assert part_counts({"a": 0.29, "b": 0.71}, 100) == {"a": 29, "b": 71}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 0.0, "b": 0.0}, "every weight is 0"),
        ({}, "every weight is 0"),
        ({"a": 1.0, "b": -0.5}, "b: -0.5; a weight is a number, 0 or above"),
        ({"a": float("nan"), "b": 1.0}, "a: nan; a weight"),
        ({"a": float("inf"), "b": 1.0}, "a: inf; a weight"),
    ],
)
def test_weights_that_mean_nothing(weights: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        part_counts(weights, 10)


def test_draws_by_id() -> None:
    ids = [f"r{i}" for i in range(50)]
    parts: list[str | None] = ["ab"[i % 2] for i in range(49)] + [None]
    times = times_drawn(ids, parts, {"a": 10, "b": 60}, seed=3)
    drawn = dict(zip(ids, times, strict=True))
    assert sum(times[0:49:2]) == 10
    assert set(times[0:49:2]) == {0, 1}
    assert sum(times[1:49:2]) == 60
    assert set(times[1:49:2]) == {2, 3}
    assert times[49] == 0
    order = list(range(50))
    random.Random(0).shuffle(order)
    again = times_drawn([ids[i] for i in order], [parts[i] for i in order], {"b": 60, "a": 10}, 3)
    assert {ids[i]: n for i, n in zip(order, again, strict=True)} == drawn
    assert times_drawn(ids, parts, {"a": 10, "b": 60}, seed=4) != times
    fewer = times_drawn(ids, parts, {"a": 5, "b": 24}, seed=3)
    assert all(few <= many for few, many in zip(fewer, times, strict=True))  # more adds to fewer
    with pytest.raises(KeyError):
        times_drawn(ids, parts, {"c": 1}, 0)


def test_every_row_is_as_likely() -> None:
    ids = [f"r{i}" for i in range(10)]
    often = [0] * 10
    for seed in range(2000):
        for index, n in enumerate(times_drawn(ids, ["a"] * 10, {"a": 3}, seed)):
            often[index] += n
    assert all(abs(n - 600) < 5 * (2000 * 0.3 * 0.7) ** 0.5 for n in often)


def test_a_content_is_what_a_row_says() -> None:
    row = {"id": "a", "n": 1, "of": [{"role": "user", "more": None}], "x": None}
    table = {"source": "s", "of": [{"role": "user"}], "n": 1.0, "id": "b"}
    assert content_digest(row, ("id", "source")) == content_digest(table, ("id", "source"))
    assert content_digest({"n": float("nan")}, ()) != content_digest({"n": 1.5}, ())
    assert content_digest({"n": "1"}, ()) != content_digest({"n": 1}, ())


def test_ids() -> None:
    a, b, c = "a" * 64, "b" * 64, "c" * 64
    rows = [("x", a), ("y", b), ("x", c), ("y", b), ("z", a)]
    assert distinct_ids(rows) == ["x-aaaaaaaa", "y", "x-cccccccc", "y", "z"]
    # Named so before, in an earlier round: the same row.
    before = [("x-aaaaaaaa", a), ("x", a), ("x", b)]
    assert distinct_ids(before) == ["x-aaaaaaaa", "x-aaaaaaaa", "x-bbbbbbbb"]
    alike = "a" * 8 + "b" * 56
    assert distinct_ids([("x", a), ("x", alike)]) == [
        f"x-aaaaaaaa-{a[:16]}",
        f"x-aaaaaaaa-{alike[:16]}",
    ]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["x", "x-aaaaaaaa", "y"]), st.sampled_from([c * 64 for c in "abc"])
        )
    ),
    st.randoms(),
)
def test_one_id_is_one_content_in_any_order(
    rows: list[tuple[str, str]], shuffled: random.Random
) -> None:
    found = distinct_ids(rows)
    contents = {(name, content) for name, (_, content) in zip(found, rows, strict=True)}
    assert len({name for name, _ in contents}) == len(contents)
    order = list(range(len(rows)))
    shuffled.shuffle(order)
    assert distinct_ids([rows[i] for i in order]) == [found[i] for i in order]


def test_the_first_of_each() -> None:
    assert first_of_each(["x", "y", "x", "x"], ["b", "b", "a", "a"]) == [False, True, True, False]


def test_copies_get_free_ids() -> None:
    found = copy_ids(["q", "q-copy-2", "r", "q"], [3, 1, 0, 1])
    assert found == [["q", "q-copy-3", "q-copy-4"], ["q-copy-2"], [], ["q-copy-5"]]
