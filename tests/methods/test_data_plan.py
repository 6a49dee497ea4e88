"""Plans of new data: shares by hand and by brute force, and what may not change them."""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import product
from typing import Any

import pytest

from llm_distill.errors import DataError
from llm_distill.methods.data_plan import (
    Skill,
    at_random,
    largest_remainder,
    made_by_leaf,
    of_one_student,
    shown_errors,
    tallied,
)

Row = dict[str, Any]


def item(number: int, skills: list[str], right: bool | None, task: str = "s") -> Row:
    return {"id": f"v{number}", "task": task, "skills": skills, "is_correct": right}


def test_shares_by_hand() -> None:
    # 10 rows by 3 : 2 : 1 are 5, 3 1/3 and 1 2/3: the last one has the largest remainder.
    assert largest_remainder({"a": 3, "b": 2, "c": 1}, 10, 0) == {"a": 5, "b": 3, "c": 2}
    assert largest_remainder({"a": 1, "b": 0}, 7, 0) == {"a": 7, "b": 0}
    assert largest_remainder({"a": 0, "b": 0}, 7, 0) == {"a": 0, "b": 0}
    assert largest_remainder({}, 7, 0) == {}
    thirds = {"a": Fraction(1, 3), "b": Fraction(2, 3)}
    assert largest_remainder(thirds, 9, 0) == {"a": 3, "b": 6}


def test_shares_against_all_ways_to_share_out() -> None:
    """Of all whole numbers that add up to n, the nearest to the exact shares."""
    draw = random.Random(1)
    for _ in range(60):
        weights = {name: draw.randrange(6) for name in "abc"}
        n = draw.randrange(8)
        found = largest_remainder(weights, n, draw.randrange(100))
        total = sum(weights.values())
        if not total:
            assert not any(found.values())
            continue
        exact = [Fraction(n * w, total) for w in weights.values()]
        ways = [way for way in product(range(n + 1), repeat=3) if sum(way) == n]
        least = min(sum((a - b) ** 2 for a, b in zip(way, exact, strict=True)) for way in ways)
        assert sum((a - b) ** 2 for a, b in zip(found.values(), exact, strict=True)) == least
        assert sum(found.values()) == n


def test_ties_go_to_others_in_other_rounds() -> None:
    weights = dict.fromkeys("abcdefgh", 1)
    shares = [largest_remainder(weights, 3, seed) for seed in range(40)]
    assert all(sum(share.values()) == 3 for share in shares)
    assert {name for share in shares for name, n in share.items() if n} == set(weights)
    turned = dict(reversed(weights.items()))
    assert largest_remainder(turned, 3, 5) == largest_remainder(weights, 3, 5)


def test_errors_by_skill() -> None:
    rows = [
        item(1, ["sub"], False),
        item(2, ["Sub", "add"], False),  # half an error in each
        item(3, ["add"], True),
        item(4, ["sub"], False, task="t"),  # another task: another skill
        item(5, [], False),
    ]
    found = tallied(rows, "skills")
    assert list(found) == [("s", "add"), ("s", "sub"), ("t", "sub")]
    assert [t.errors for t in found.values()] == [Fraction(1, 2), Fraction(3, 2), 1]
    assert [(t.n_wrong, t.n_items) for t in found.values()] == [(1, 2), (2, 2), (1, 1)]
    assert found["s", "sub"].wrong_ids == ("v1", "v2")
    assert tallied(rows[::-1], "skills") == found
    of_task = tallied(rows, "task")
    assert {key: t.n_wrong for key, t in of_task.items()} == {("s", "s"): 3, ("t", "t"): 1}


def test_answers_of_an_exam_are_counted_by_item() -> None:
    rows = [
        {**item(1, ["sub"], right), "id": f"v1-m-0-{i}", "parent_id": "v1", "model": "m"}
        for i, right in enumerate((False, False, True))
    ]
    (found,) = tallied(rows, "skills").values()
    assert (found.wrong_ids, found.ids, found.n_wrong, found.n_items) == (("v1",), ("v1",), 2, 3)
    of_one_student(rows, "exam")
    with pytest.raises(DataError, match="'exam' has answers of m, other; a plan is made for one"):
        of_one_student([*rows, {**rows[0], "model": "other"}], "exam")


def test_a_gap_disappears_in_a_coarse_category() -> None:
    """The failure of a list that is too coarse: by hand, from planted gaps of 15 items each."""
    fine = ["add", "sub", "mul", "div", "two", "cmp", "day", "ord"]
    coarse = dict.fromkeys(fine[:5], "calculating") | dict.fromkeys(fine[5:], "reading")
    gaps = {"sub", "day"}
    named = [
        (number, name, name not in gaps)
        for number, name in enumerate(name for name in fine for _ in range(15))
    ]

    def share_on_gaps(of: dict[str, str]) -> Fraction:
        """If a category's rows are about each of its skills alike."""
        tallies = tallied([item(i, [of[name]], right) for i, name, right in named], "skills")
        plan = largest_remainder({k: t.errors for k, t in tallies.items()}, 360, 0)
        members = {c: [n for n in fine if of[n] == c] for c in of.values()}
        return sum(
            (Fraction(n * len(gaps & set(members[c])), 360 * len(members[c])))
            for (_, c), n in plan.items()
        )

    assert share_on_gaps({name: name for name in fine}) == 1
    assert share_on_gaps(coarse) == Fraction(4, 15)  # (1/5 + 1/3) / 2, not far from:
    assert share_on_gaps(dict.fromkeys(fine, "all")) == Fraction(2, 8)


def test_random_skills_are_drawn_alike() -> None:
    skills: list[Skill] = [("s", name) for name in "abcd"]
    found = at_random(skills, 4000, 3)
    assert sum(found.values()) == 4000
    assert all(900 < n < 1100 for n in found.values())
    assert at_random(skills[::-1], 4000, 3) == found
    assert at_random([], 5, 3) == {}


def test_errors_are_shown_in_turn() -> None:
    ids = [f"v{i}" for i in range(7)]
    shown = shown_errors(ids, 6, 3, 0)
    assert [len(set(each)) for each in shown] == [3] * 6
    times = [sum(name in each for each in shown) for name in ids]
    assert sum(times) == 18
    assert max(times) - min(times) <= 1
    assert shown_errors(reversed(ids), 6, 3, 0) == shown
    assert shown_errors(ids, 6, 3, 1) != shown
    assert sorted(shown_errors(ids, 12, 1, 0)) == [[name] for name in ids]  # none twice
    assert sorted(shown_errors(ids[:2], 9, 3, 0)[0]) == ids[:2]
    assert shown_errors([], 9, 3, 0) == []


def test_what_was_made() -> None:
    rows = [{"task": "s", "skill": "Sub"}, {"task": "s", "skill": "sub"}, {"skill": None}]
    assert made_by_leaf(rows) == {("s", "sub", ""): 2}
    part = {"task": "s", "skill": "sub", "subskill": "eggs"}
    assert made_by_leaf([part, {**part, "subskill": None}, {**part, "skill": "add"}]) == {
        ("s", "sub", "eggs"): 1, ("s", "sub", ""): 1, ("s", "add", "eggs"): 1
    }  # fmt: skip
