"""consensus: questions whose solutions agree, by question and not by order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llm_distill.errors import DataError
from llm_distill.stages.consensus import Consensus

Run = Callable[..., Any]


def rows(**answers: list[str | None]) -> list[dict[str, Any]]:
    return [
        {"id": f"{question}-{i}", "parent_id": question, "answer": answer}
        for question, given in answers.items()
        for i, answer in enumerate(given)
    ]


def stage(**settings: Any) -> Consensus:
    return Consensus(stage="consensus", rows="rows", **settings)


ALL = rows(
    two=["7", "8", " 7. "],
    split=["1", "2", "3"],
    none=[None, None, ""],
    tie=["1", "2", "2", "1"],
    three=["4", None, "4"],
)


def test_only_solutions_that_agree_are_kept_and_the_rest_is_counted(run_stage: Run) -> None:
    run = run_stage(stage(), {"rows": ALL})
    assert [(r["id"], r["agreement"], r["reference_answer"]) for r in run.rows] == [
        ("two-0", 2, "7"), ("two-2", 2, "7"), ("three-0", 2, "4"), ("three-2", 2, "4")
    ]  # fmt: skip
    assert run.dropped == {
        "another answer": 1, "no agreement": 3, "no answer": 4, "a tie": 4
    }  # fmt: skip
    assert run.metrics == {
        "questions": 5,
        "kept_questions": 2,
        "dropped_questions": {"no agreement": 1, "no answer": 1, "a tie": 1},
    }
    assert stage().output_columns({"rows": frozenset(ALL[0])}) == set(run.rows[0])
    assert run.warnings == []


def test_rows_of_a_question_need_not_stand_together(run_stage: Run) -> None:
    kept = {row["id"] for row in run_stage(stage(), {"rows": ALL}).rows}
    apart = sorted(ALL, key=lambda row: row["id"][-1])
    assert {row["id"] for row in run_stage(stage(), {"rows": apart}).rows} == kept


def test_equality_is_the_one_that_is_asked_for(run_stage: Run) -> None:
    given = rows(q=["1/2", "0.5", "3"])
    assert run_stage(stage(), {"rows": given}).rows == []
    found = run_stage(stage(answer_kind="math"), {"rows": given}).rows
    assert [(row["id"], row["reference_answer"]) for row in found] == [
        ("q-0", "1/2"),
        ("q-1", "1/2"),
    ]


def test_what_cannot_agree_is_said(run_stage: Run) -> None:
    run = run_stage(stage(min_agreement=3), {"rows": rows(q=["1", "1"])})
    assert (
        "no question of 'rows' has more than 2 solutions, and min_agreement is 3" in run.warnings[0]
    )
    assert run_stage(stage(), {"rows": []}).rows == []
    with pytest.raises(DataError, match="row b of 'rows' has no parent_id"):
        run_stage(stage(), {"rows": [*ALL, {"id": "b", "parent_id": None, "answer": "1"}]})
