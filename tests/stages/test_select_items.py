"""select_items: the planted items are kept, by task, and fallbacks are said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from llm_distill.errors import DataError
from llm_distill.stages.select_items import SelectItems

Run = Callable[..., Any]


def items(n: int, task: str = "sums") -> list[dict[str, Any]]:
    return [{"id": f"{task}{i}", "task": task, "question": f"q{i}"} for i in range(n)]


def predictions(rows: list[dict[str, Any]], matrix: Any) -> list[dict[str, Any]]:
    """One taker a line: model m0 with 0 shots, m0 with 1, m1 with 0, …"""
    return [
        {
            "id": f"{row['id']}-m{taker // 2}-{taker % 2}",
            "parent_id": row["id"],
            "model": f"m{taker // 2}",
            "shots": taker % 2,
            "candidate_index": 0,
            "is_correct": bool(answer),
        }
        for taker, line in enumerate(matrix)
        for row, answer in zip(rows, line, strict=True)
    ]


def stage(n: int, names: tuple[str, ...] = ("p",)) -> SelectItems:
    return SelectItems(stage="select_items", rows="rows", predictions=list(names), n=n)


def abilities_matrix(n_takers: int, slopes: list[float], seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    abilities = random.standard_normal(n_takers)
    p = 1 / (1 + np.exp(-np.outer(abilities, slopes)))
    return random.random(p.shape) < p


def test_the_items_that_discriminate_are_kept_in_their_order(run_stage: Run) -> None:
    rows = items(20)
    slopes = [6.0 if i in (2, 9, 17) else 0.2 for i in range(20)]
    slopes[5] = -6.0
    matrix = abilities_matrix(60, slopes)
    matrix[:, 0], matrix[:, 1] = True, False
    run = run_stage(stage(3), {"rows": rows, "p": predictions(rows, matrix)})
    assert [row["id"] for row in run.rows] == ["sums2", "sums9", "sums17"]
    assert all(row["discrimination"] > 1 for row in run.rows)
    assert all(abs(row["difficulty"]) < 1 for row in run.rows)
    (table,) = run.metrics["tasks"]
    assert (table["uninformative"], table["by_discrimination"], table["at_random"]) == (2, 3, 0)
    assert table["negative_discrimination"] >= 1
    assert run.warnings == []
    assert run.dropped == {"not selected": 17}


def test_a_negative_item_is_left_out_even_when_there_are_too_few(run_stage: Run) -> None:
    rows = items(6)
    matrix = abilities_matrix(200, [4.0, 4.0, -4.0, 4.0, 4.0, 4.0])
    matrix[:, 1] = True
    run = run_stage(stage(6), {"rows": rows, "p": predictions(rows, matrix)})
    assert [row["id"] for row in run.rows] == ["sums0", "sums1", "sums3", "sums4", "sums5"]
    assert run.rows[1]["discrimination"] is None  # all are right: it only fills up
    assert "4 of 6 items discriminate, 6 are wanted; 1 added at random" in run.warnings[0]


def test_too_few_takers_draw_at_random_with_a_warning(run_stage: Run) -> None:
    rows = items(30)
    matrix = [[i % 2 for i in range(30)], [i % 3 == 0 for i in range(30)]]
    data = {"rows": rows, "p": predictions(rows, matrix)}
    run = run_stage(stage(10), data)
    assert len(run.rows) == 10
    assert "2 different examinees" in run.warnings[0]
    assert run.metrics["tasks"][0]["at_random"] == 10
    assert run_stage(stage(10), data).rows == run.rows
    assert run_stage(stage(10), data, seed=1).rows != run.rows
    turned = {"rows": rows[::-1], "p": data["p"]}
    assert {r["id"] for r in run_stage(stage(10), turned).rows} == {r["id"] for r in run.rows}


def test_each_task_has_its_own_fit(run_stage: Run) -> None:
    rows = items(10, "sums") + items(10, "dates")
    slopes = [5.0 if i in (3, 5, 7, 14, 16, 18) else 0.2 for i in range(20)]
    matrix = abilities_matrix(80, slopes)
    run = run_stage(stage(3), {"rows": rows, "p": predictions(rows, matrix)})
    assert [row["id"] for row in run.rows] == [
        "sums3", "sums5", "sums7", "dates4", "dates6", "dates8"
    ]  # fmt: skip


def test_takers_of_several_stages_are_joined(run_stage: Run) -> None:
    rows = items(8)
    matrix = abilities_matrix(4, [3.0] * 8)
    data = {
        "rows": rows,
        "a": predictions(rows, matrix[:2]),
        "b": predictions(rows, matrix[2:]),  # the same names: other takers
    }
    run = run_stage(stage(2, ("a", "b")), data)
    assert run.metrics["tasks"][0]["takers"] == len(np.unique(matrix, axis=0)) == 4


def test_an_item_that_was_not_evaluated_is_an_error(run_stage: Run) -> None:
    rows = items(4)
    given = predictions(rows, abilities_matrix(3, [1.0] * 4))[:-1]
    with pytest.raises(DataError, match="item sums3 of 'rows' has no answer by m1 with 0 shots"):
        run_stage(stage(2), {"rows": rows, "p": given})
