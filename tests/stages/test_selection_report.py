"""selection_report: planted preferences are found, by round, whatever the rows' ids are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llm_distill.errors import DataError
from llm_distill.evaluation.results import Results
from llm_distill.stages.selection_report import SelectionReport

Run = Callable[..., Any]
POOL = [
    {"id": f"s{i}", "task": "sums", "skills": ["gap", "add"] if i % 4 == 0 else ["add"]}
    for i in range(40)
]
GAPS = [row for row in POOL if "gap" in row["skills"]]


def stage(**settings: Any) -> SelectionReport:
    values = {"stage": "selection_report", "rows": "chosen", "pool": "pool", "by": ["skills"]}
    return SelectionReport.model_validate({**values, **settings})


def test_what_a_choice_prefers_is_found(run_stage: Run) -> None:
    run = run_stage(stage(), {"pool": POOL, "chosen": GAPS[:6]})
    found = {row["value"]: row for row in run.rows}
    assert set(found) == {"gap", "add"}
    gap = found["gap"]
    assert (gap["n_pool"], gap["n_chosen"], gap["share_of_pool"]) == (10, 6, 0.25)
    assert (gap["precision"], gap["recall"], gap["is_preferred"]) == (1, 0.6, True)
    assert not found["add"]["is_preferred"]
    assert run.metrics["preferred"] == ["gap"]
    assert stage().output_columns({}) == set(run.rows[0])


def test_rows_that_were_made_from_a_seed_count_as_the_seed_and_once(run_stage: Run) -> None:
    drawn = [
        {"id": f"v{i}/gap/{row['id']}", "source_id": row["id"], "parent_id": row["id"]}
        for row in GAPS[:3]
        for i in range(4)
    ]
    asked = [{"id": f"{row['id']}-0", "parent_id": row["id"]} for row in GAPS[:3]]
    one = run_stage(stage(), {"pool": POOL, "chosen": drawn}).rows
    assert one == run_stage(stage(), {"pool": POOL, "chosen": asked}).rows
    assert one == run_stage(stage(), {"pool": POOL, "chosen": GAPS[:3]}).rows


def test_the_rounds_before_are_passed_on_and_drawn(run_stage: Run) -> None:
    first = run_stage(stage(), {"pool": POOL, "chosen": GAPS[:6]}).rows
    rows = {"pool": POOL, "chosen": POOL[1:4], "before": first}
    run = run_stage(stage(before="before"), rows)
    assert [row["round"] for row in run.rows] == [1, 1, 2, 2]
    assert run.rows[:2] == first
    (table,) = Results.from_metrics(run.metrics).own
    assert table.over == "round"
    assert [cells[:2] for cells in table.cells] == [
        ("1", "add"), ("1", "gap"), ("2", "add"), ("2", "gap"),
    ]  # fmt: skip
    assert run.metrics["preferred"] == []


def test_a_column_without_lists_and_rows_without_a_value(run_stage: Run) -> None:
    pool = [{"id": "a", "state": "good"}, {"id": "b", "state": None}, {"id": "c", "state": "bad"}]
    rows = run_stage(stage(by=["state"]), {"pool": pool, "chosen": pool[:2]}).rows
    assert [(row["value"], row["precision"]) for row in rows] == [("bad", 0), ("good", 0.5)]


def test_each_column_is_a_table_for_itself(run_stage: Run) -> None:
    run = run_stage(stage(by=["task", "skills"]), {"pool": POOL, "chosen": GAPS[:6]})
    assert [(row["column"], row["value"]) for row in run.rows] == [
        ("task", "sums"), ("skills", "add"), ("skills", "gap"),
    ]  # fmt: skip
    titles = [table.title for table in Results.from_metrics(run.metrics).own]
    assert titles == ["chosen by task", "chosen by skills"]


def test_rows_of_another_pool_and_a_column_without_values_are_refused(run_stage: Run) -> None:
    with pytest.raises(DataError, match="row x of 'chosen' is not from 'pool'"):
        run_stage(stage(), {"pool": POOL, "chosen": [{"id": "x", "parent_id": "y"}]})
    nothing = [{"id": "a", "state": None}]
    with pytest.raises(DataError, match="no row of 'pool' has a value in 'state'"):
        run_stage(stage(by=["state"]), {"pool": nothing, "chosen": nothing})


def test_a_choice_of_nothing_passes_the_rounds_before_on(run_stage: Run) -> None:
    first = run_stage(stage(), {"pool": POOL, "chosen": GAPS[:6]}).rows
    run = run_stage(stage(before="before"), {"pool": POOL, "chosen": [], "before": first})
    assert run.rows == first
    assert run.warnings == ["'chosen' has no rows: nothing was chosen"]
    nothing = run_stage(stage(), {"pool": POOL, "chosen": []}).rows
    again = run_stage(stage(before="before"), {"pool": POOL, "chosen": [], "before": nothing})
    assert nothing == again.rows == []
    assert stage(before="before").may_be_empty() == {"chosen", "before"}
