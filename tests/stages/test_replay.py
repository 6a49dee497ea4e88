from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.errors import DataError
from llm_distill.stages.replay import Replay
from llm_distill.stages.select import Select

Run = Callable[..., Any]
NEW = [{"id": f"n{i}", "question": f"new {i}", "score": 0.5} for i in range(8)]
POOL = [{"id": f"p{i}", "question": f"old {i}", "skill": "s"} for i in range(40)]


def stage(ratio: float = 0.25, pool: str = "pool") -> Replay:
    return Replay(stage="replay", rows="new", pool=pool, ratio=ratio)


def test_all_new_rows_and_some_old_ones_with_what_both_have(run_stage: Run) -> None:
    run = run_stage(stage(), {"new": NEW, "pool": POOL})
    assert [row["id"] for row in run.rows[:8]] == [row["id"] for row in NEW]
    old = run.rows[8:]
    assert [set(row) for row in run.rows] == [{"id", "question", "is_replay"}] * 10
    assert [row["is_replay"] for row in run.rows] == [False] * 8 + [True] * 2
    assert all(row["id"] == f"replay/p{row['question'].removeprefix('old ')}" for row in old)
    assert run.metrics == {"n_new": 8, "n_replayed": 2}
    columns = {"new": frozenset(NEW[0]), "pool": frozenset(POOL[0])}
    assert stage().output_columns(columns) == set(run.rows[0])
    assert stage().output_columns({**columns, "pool": None}) is None


def test_what_is_drawn_depends_on_the_seed_and_the_ids_only(run_stage: Run) -> None:
    def drawn(pool: list[dict[str, Any]], seed: int) -> set[str]:
        run = run_stage(stage(2.0), {"new": NEW, "pool": pool}, seed=seed)
        return {row["id"] for row in run.rows[8:]}

    assert len(drawn(POOL, 1)) == 16
    assert drawn(POOL, 1) == drawn(POOL[::-1], 1) != drawn(POOL, 2)


def test_nothing_new_is_nothing_to_train_on(run_stage: Run) -> None:
    assert run_stage(stage(), {"new": [], "pool": POOL}).rows == []
    assert stage().may_be_empty() == {"new"}


def test_a_pool_that_is_too_small_says_so(run_stage: Run) -> None:
    run = run_stage(stage(10), {"new": NEW, "pool": POOL})
    assert len(run.rows) == 48
    assert "40 rows of 'pool' are replayed, where ratio 10 asks for 80" in run.warnings[0]


def test_a_question_among_the_new_ones_is_not_replayed(run_stage: Run) -> None:
    new = [{"id": f"x{i}", "question": f"Old  {i}"} for i in range(36)]
    run = run_stage(stage(1.0), {"new": new, "pool": POOL})
    assert {row["id"] for row in run.rows[36:]} == {f"replay/p{i}" for i in range(36, 40)}


def test_select_and_replay_of_one_stage_draw_apart(run_stage: Run) -> None:
    many = [{"id": f"p{i}", "question": f"old {i}"} for i in range(400)]
    chosen = run_stage(
        Select(stage="select", rows="pool", n=100, order="random"), {"pool": many}, seed=3
    ).rows
    first = {row["id"] for row in chosen}
    replayed = run_stage(stage(12.5), {"new": NEW, "pool": many}, seed=3).rows[8:]
    assert len(replayed) == 100
    assert 10 < sum(row["id"].removeprefix("replay/") in first for row in replayed) < 45


def test_a_replayed_row_weighs_one(run_stage: Run) -> None:
    new = [{**row, "weight": 3.0} for row in NEW]
    run = run_stage(stage(), {"new": new, "pool": POOL})
    assert [row["weight"] for row in run.rows] == [3.0] * 8 + [1.0] * 2


def test_columns_of_two_kinds_are_refused(run_stage: Run) -> None:
    odd = [{"id": "p", "question": "x", "score": 7}]
    with pytest.raises(DataError, match="column 'score' is .*float64.* in 'new', but .*int64"):
        run_stage(stage(), {"new": NEW, "pool": odd})


def test_the_pool_is_another_stage() -> None:
    with pytest.raises(ValidationError, match="the new rows themselves"):
        stage(pool="new")
