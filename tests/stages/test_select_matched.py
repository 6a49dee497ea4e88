"""select_matched: the size, the number of questions and the repetition of the selection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from llm_distill.errors import DataError
from llm_distill.stages.select_matched import SelectMatched

Run = Callable[..., Any]

TRAIN = [{"id": f"{t}{i}", "task": t, "question": f"{t} {i}?"} for t in "ab" for i in range(30)]


def stage() -> SelectMatched:
    return SelectMatched(stage="select_matched", rows="train", like="chosen")


def chosen(*copies: tuple[str, str, list[float]]) -> list[dict[str, Any]]:
    return [
        {"id": f"{source}-{i}", "task": task, "source_id": source, "weight": weight}
        for task, source, weights in copies
        for i, weight in enumerate(weights)
    ]


LIKE = chosen(
    ("a", "a0", [1.0] * 4), ("a", "a1", [1.0]), ("a", "a2", [1.0]), ("b", "b0", [1.0] * 2)
)


def repetitions(rows: list[dict[str, Any]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {"a": [], "b": []}
    for (task, _), count in Counter((row["task"], row["source_id"]) for row in rows).items():
        found[task].append(count)
    return {task: sorted(counts) for task, counts in found.items()}


def test_it_is_of_the_selections_shape(run_stage: Run) -> None:
    run = run_stage(stage(), {"train": TRAIN, "chosen": LIKE})
    assert repetitions(run.rows) == repetitions(LIKE) == {"a": [1, 1, 4], "b": [2]}
    by_id = {row["id"]: row for row in TRAIN}
    assert len({row["id"] for row in run.rows}) == len(run.rows)
    for row in run.rows:
        assert row["question"] == by_id[row["source_id"]]["question"]
        assert row["parent_id"] == row["source_id"]
    assert run.dropped == {"not selected": 56}
    assert stage().output_columns({"train": frozenset(TRAIN[0])}) == set(run.rows[0])


def test_every_question_is_as_likely(run_stage: Run) -> None:
    seen: Counter[str] = Counter()
    for seed in range(40):
        rows = run_stage(stage(), {"train": TRAIN, "chosen": LIKE}, seed=seed).rows
        seen.update({row["source_id"] for row in rows if row["task"] == "a"})
    assert len(seen) > 22  # 30 are there, each with the chance 1 - 0.9^40 = 0.985 to be seen
    assert max(seen.values()) < 4 + 5 * 4**0.5


def test_rows_in_any_order_give_the_same(run_stage: Run) -> None:
    one = run_stage(stage(), {"train": TRAIN, "chosen": LIKE})
    other = run_stage(stage(), {"train": TRAIN[::-1], "chosen": LIKE[::-1]})
    assert {row["id"] for row in one.rows} == {row["id"] for row in other.rows}


def test_weights_are_matched_too(run_stage: Run) -> None:
    like = chosen(("a", "a0", [4.0]), ("a", "a1", [1.0]))
    run = run_stage(stage(), {"train": TRAIN, "chosen": like})
    assert sorted(row["weight"] for row in run.rows) == [1.0, 4.0]


def test_nothing_selected_and_too_few_rows(run_stage: Run) -> None:
    assert run_stage(stage(), {"train": TRAIN, "chosen": []}).rows == []
    assert set(stage().may_be_empty()) == {"chosen"}
    with pytest.raises(
        DataError, match="'chosen' has 3 different questions of task 'a', and 'train' 2"
    ):
        run_stage(stage(), {"train": TRAIN[:2], "chosen": LIKE})
