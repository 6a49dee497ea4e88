"""select_by_skill: what is drawn, how it is weighted, and what is said where rows are short."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from llm_distill.errors import DataError
from llm_distill.stages.select_by_skill import SelectBySkill

Run = Callable[..., Any]

PROFILE = [
    {"id": "s/sub", "task": "s", "skill": "sub", "question_ids": ["v1", "v2", "v3"]},
    {"id": "s/add", "task": "s", "skill": "add", "question_ids": ["v1"]},
]
TRAIN = [
    *(
        {"id": f"t{i}", "task": "s", "question": f"{i} - 1?", "skills": ["sub"], "error": None}
        for i in range(12)
    ),
    *(
        {"id": f"u{i}", "task": "s", "question": f"{i} + 1?", "skills": ["add"], "error": None}
        for i in range(6)
    ),
    {"id": "w", "task": "other", "question": "9 - 1?", "skills": ["sub"], "error": None},
]


def stage(**settings: Any) -> SelectBySkill:
    return SelectBySkill(stage="select_by_skill", rows="train", profile="profile", **settings)


def data(**more: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    return {"train": TRAIN, "profile": PROFILE, **more}


def test_one_row_a_draw(run_stage: Run) -> None:
    run = run_stage(stage(), data())
    assert Counter(row["skill"] for row in run.rows) == {"sub": 15, "add": 5}
    by_id = {row["id"]: row for row in TRAIN}
    for row in run.rows:
        source = by_id[row["source_id"]]
        question, skill, tail = row["id"].split("/")
        assert (
            (skill, tail) == (row["skill"], source["id"]) == (source["skills"][0], row["parent_id"])
        )
        assert question in {"v1", "v2", "v3"}
        assert (row["question"], row["task"], row["weight"]) == (source["question"], "s", 1.0)
    assert run.metrics["draws"] == run.metrics["kept_draws"] == 20
    assert run.metrics["questions"] == len({row["source_id"] for row in run.rows})
    assert run.dropped == {"not selected": len(TRAIN) - run.metrics["questions"]}
    assert run.warnings == []
    assert stage().output_columns({"train": frozenset(TRAIN[0])}) == set(run.rows[0])


def test_the_size_and_the_order_of_the_rows(run_stage: Run) -> None:
    run = run_stage(stage(n=7), data())
    assert len(run.rows) == 7
    mixed = random.Random(1).sample(TRAIN, len(TRAIN))
    other = run_stage(stage(n=7), {"train": mixed, "profile": PROFILE[::-1]})
    assert {r["id"] for r in other.rows} == {r["id"] for r in run.rows}
    assert {r["id"] for r in run_stage(stage(n=7), data(), seed=1).rows} != {
        r["id"] for r in run.rows
    }


def test_weights_are_the_numbers_of_draws(run_stage: Run) -> None:
    draws = run_stage(stage(n=15), data()).rows
    run = run_stage(stage(n=15, as_weights=True), data())
    assert {r["source_id"]: r["weight"] for r in run.rows} == Counter(
        row["source_id"] for row in draws
    )
    assert len({row["id"] for row in run.rows}) == len(run.rows)
    assert max(row["weight"] for row in run.rows) > 1


def test_a_skill_short_of_questions(run_stage: Run) -> None:
    profile = [*PROFILE, {"id": "s/div", "task": "s", "skill": "div", "question_ids": ["v1", "v2"]}]
    run = run_stage(stage(draws=8, n=40), {"train": TRAIN, "profile": profile})
    assert len(run.rows) == 3 * 8 + 6
    assert run.metrics["skills_short_of_questions"] == {"s/add": 6}
    assert run.metrics["needs_without_questions"] == {"s/div": 2}
    first, second = run.warnings
    assert "no row of 'train' is labelled with s/div: 2 of 6 pairs" in first
    assert "30 draws, but n is 40: there are 6 pairs" in second
    assert "each with 8 draws; 2 of 3 skills have fewer questions than that; raise" in second


def test_a_student_that_is_already_right_gives_nothing(run_stage: Run) -> None:
    run = run_stage(stage(n=9), {"train": TRAIN, "profile": []})
    assert (run.rows, run.warnings) == ([], [])
    assert run.metrics["draws"] == 0
    assert set(stage(questions="q").may_be_empty()) == {"profile", "q"}


def test_labels_of_another_list_are_an_error(run_stage: Run) -> None:
    with pytest.raises(
        DataError, match="no row of 'train' is labelled with .*: s/add, s/sub; label"
    ):
        run_stage(stage(), data(train=[{**row, "skills": ["Adding"]} for row in TRAIN]))


def test_validation_questions_are_refused(run_stage: Run) -> None:
    leaked = [*TRAIN, {**TRAIN[0], "id": "v2"}]
    with pytest.raises(DataError, match="row v2 of 'train' has the id of a question of 'profile'"):
        run_stage(stage(), data(train=leaked))
    hard = [{"id": "v1", "question": "3 - 1 ?"}]
    with pytest.raises(DataError, match="row t3 of 'train' asks the same as a question of 'hard'"):
        run_stage(stage(questions="hard"), data(hard=hard))
    run_stage(stage(questions="hard"), data(hard=[{"id": "v1", "question": "3 - 9?"}]))
