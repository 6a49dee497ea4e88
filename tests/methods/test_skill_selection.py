"""Draws for missing skills: counts by brute force, order invariance, and rows that are refused."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from llm_distill.errors import DataError
from llm_distill.methods.skill_selection import (
    Need,
    check_apart,
    copies_by_task,
    draw_for_each,
    ids_by_skill,
    needs_of,
    random_subset,
    skill_name,
)

PROFILE = [
    {"id": "a/x", "task": "a", "skill": "x", "question_ids": ["v1", "v2", "v3"]},
    {"id": "a/y", "task": "a", "skill": "y", "question_ids": ["v1"]},
    {"id": "b/x", "task": "b", "skill": "x", "question_ids": ["v9"]},
]
ROWS: list[dict[str, Any]] = [
    *({"id": f"x{i}", "task": "a", "skills": ["x"]} for i in range(20)),
    *({"id": f"xy{i}", "task": "a", "skills": ["x", "y"]} for i in range(3)),
    {"id": "none", "task": "a", "skills": None},
    {"id": "b0", "task": "b", "skills": ["x"]},
]


def shuffled(rows: list[Any], seed: int) -> list[Any]:
    return random.Random(seed).sample(rows, len(rows))


def test_needs_are_the_pairs_of_the_profile_in_any_order() -> None:
    wanted = {(q, r["task"], r["skill"]) for r in PROFILE for q in r["question_ids"]}
    found = needs_of(PROFILE)
    assert {(n.question_id, n.task, n.skill) for n in found} == wanted
    assert len(found) == 5
    assert needs_of(shuffled(PROFILE, 1)) == found
    twice = [{**PROFILE[0], "question_ids": ["v1", "v1"]}]
    assert len(needs_of(twice)) == 1


def test_a_skill_is_its_tasks_own() -> None:
    pools = ids_by_skill(ROWS)
    assert pools[("b", "x")] == ["b0"]
    assert len(pools[("a", "x")]) == 23
    assert pools[("a", "y")] == ["xy0", "xy1", "xy2"]
    assert (skill_name(("a", "x")), skill_name(("", "x"))) == ("a/x", "x")


def test_every_need_draws_different_rows_with_its_skill() -> None:
    pools = ids_by_skill(ROWS)
    draws = draw_for_each(needs_of(PROFILE), pools, 5, seed=1)
    by_need = Counter(draw.need for draw in draws)
    # By hand: 5 each for x of a; y of a has 3 questions, x of b has 1.
    assert sorted(by_need.values()) == [1, 3, 5, 5, 5]
    labels = {row["id"]: (row["task"], row["skills"] or []) for row in ROWS}
    for draw in draws:
        task, skills = labels[draw.source_id]
        assert task == draw.need.task
        assert draw.need.skill in skills
    assert len({draw.id for draw in draws}) == len(draws)


def test_draws_depend_on_ids_and_the_seed_and_not_on_order() -> None:
    def drawn(rows: list[Any], profile: list[Any], seed: int) -> set[str]:
        draws = draw_for_each(needs_of(profile), ids_by_skill(rows), 5, seed)
        return random_subset((draw.id for draw in shuffled(draws, seed + 9)), 12, seed)

    first = drawn(ROWS, PROFILE, 1)
    assert drawn(shuffled(ROWS, 3), shuffled(PROFILE, 4), 1) == first
    assert drawn(ROWS, PROFILE, 2) != first
    one = draw_for_each(needs_of(PROFILE[:1]), ids_by_skill(ROWS), 5, 1)
    assert {draw.id for draw in one} <= {
        draw.id for draw in draw_for_each(needs_of(PROFILE), ids_by_skill(ROWS), 5, 1)
    }


def test_over_seeds_every_question_is_drawn_as_often() -> None:
    """Expectation of a uniform draw: 23 questions, 5 of them for each of 3 needs, 400 seeds."""
    needs, pools = needs_of(PROFILE[:1]), ids_by_skill(ROWS)
    seen = Counter(
        draw.source_id for seed in range(400) for draw in draw_for_each(needs, pools, 5, seed)
    )
    expected = 400 * 3 * 5 / 23
    assert len(seen) == 23
    assert all(abs(count - expected) < 5 * expected**0.5 for count in seen.values())


def test_a_random_subset_keeps_the_skills_shares() -> None:
    """15 draws for one skill and 3 for another: 9 of the 18 hold 7.5 of the first on average."""
    ids = [f"x{i}" for i in range(15)] + [f"y{i}" for i in range(3)]
    counts = [sum(i[0] == "x" for i in random_subset(ids, 9, seed)) for seed in range(400)]
    assert sum(counts) / 400 == pytest.approx(7.5, abs=0.2)
    assert random_subset(ids, None, 1) == random_subset(ids, 99, 1) == set(ids)


def test_copies_of_a_selection() -> None:
    like = [
        {"id": "1", "task": "a", "source_id": "s", "weight": 1.0},
        {"id": "2", "task": "a", "source_id": "t", "weight": None},
        {"id": "3", "task": "a", "source_id": "s", "weight": 1.0},
        {"id": "4", "task": "b", "source_id": "s", "weight": 4.0},
    ]
    assert copies_by_task(like) == {"a": [(1.0, 1.0), (1.0,)], "b": [(4.0,)]}
    assert copies_by_task(like[::-1]) == copies_by_task(like)
    assert copies_by_task([{"source_id": "s"}]) == {"": [(1.0,)]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "v1"}, "row v1 of 'train' has the id of a question of 'hard'"),
        ({"id": "v1-0", "parent_id": "v1"}, "row v1-0 of 'train' has the id"),
        ({"id": "t", "question": "what IS 2 + 2"}, "row t of 'train' asks the same as a question"),
    ],
)
def test_rows_that_the_student_was_judged_on_are_refused(row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_apart([{"id": "u"}, row], "train", ["v1"], ["What is 2 + 2?", None], "hard")
    check_apart([{"id": "u", "question": "What is 2 + 3?"}], "train", ["v1"], [None], "hard")


def test_ids_of_draws_are_readable() -> None:
    (draw,) = draw_for_each([Need("a", "y", "v1")], {("a", "y"): ["t"]}, 5, 0)
    assert draw.id == "v1/y/t"
