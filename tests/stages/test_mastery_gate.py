"""mastery_gate: planted gaps are opened in the order of what builds on what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.errors import DataError
from llm_distill.stages.mastery_gate import MasteryGate
from llm_distill.stages.select_by_skill import SelectBySkill

Run = Callable[..., Any]
NEEDS = {"division": ["multiplication"], "multiplication": ["addition"]}
RIGHT = {"addition": 19, "multiplication": 4, "division": 1, "Weekday": 20}


def exam(model: str, right: dict[str, int], n: int = 20) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{skill}-{i}-{model}",
            "parent_id": f"{skill}-{i}",
            "task": "sums",
            "model": model,
            "skills": [skill],
            "is_correct": i < n_right,
            "error": None,
        }
        for skill, n_right in right.items()
        for i in range(n)
    ]


def stage(**settings: Any) -> MasteryGate:
    values = {"stage": "mastery_gate", "rows": "exam", "student": "student"}
    return MasteryGate.model_validate({**values, "prerequisites": NEEDS, **settings})


def test_only_what_may_be_taught_now_has_questions(run_stage: Run) -> None:
    run = run_stage(stage(), {"exam": exam("student", RIGHT)})
    found = {row["skill"]: row for row in run.rows}
    assert [row["skill"] for row in run.rows] == [
        "addition", "multiplication", "division", "weekday",
    ]  # fmt: skip
    assert run.metrics["open"] == ["multiplication"]
    assert run.metrics["waiting"] == ["division"]
    assert found["multiplication"]["question_ids"] == [f"multiplication-{i}" for i in range(4, 20)]
    assert (found["multiplication"]["weight"], found["multiplication"]["count"]) == (1, 16)
    assert found["division"]["question_ids"] == [] == found["addition"]["question_ids"]
    assert found["multiplication"]["teacher_accuracy"] is None
    assert stage().output_columns({}) == set(run.rows[0])


def test_the_profile_is_one_that_select_by_skill_draws_from(run_stage: Run) -> None:
    profile = run_stage(stage(), {"exam": exam("student", RIGHT)}).rows
    pool = [
        {"id": f"t{skill}{i}", "task": "sums", "skills": [skill]}
        for skill in RIGHT
        for i in range(5)
    ]
    select = SelectBySkill(stage="select_by_skill", rows="pool", profile="profile", draws=2)
    drawn = run_stage(select, {"pool": pool, "profile": profile}).rows
    assert {row["skill"] for row in drawn} == {"multiplication"}


def test_a_teacher_that_cannot_is_told(run_stage: Run) -> None:
    rows = exam("student", RIGHT) + exam("teacher", {**RIGHT, "multiplication": 0, "division": 18})
    run = run_stage(stage(teacher="teacher"), {"exam": rows})
    assert run.metrics["teacher_cannot"] == ["multiplication"]
    assert run.metrics["open"] == ["division"]  # nothing waits for what cannot be taught
    assert run.warnings == ["'teacher' answers nothing of multiplication: not taught"]


def test_a_student_that_lacks_nothing_leaves_nothing_open(run_stage: Run) -> None:
    run = run_stage(stage(), {"exam": exam("student", dict.fromkeys(RIGHT, 20))})
    assert not any(row["question_ids"] for row in run.rows)
    assert run.warnings == ["no skill is open: the student has mastered all that can be taught"]


def test_each_task_has_the_order_of_its_own_skills(run_stage: Run) -> None:
    shapes = [
        {**row, "parent_id": f"x{row['parent_id']}", "task": "shapes"}
        for row in exam("student", {"multiplication": 4, "area": 3})
    ]
    run = run_stage(stage(), {"exam": exam("student", RIGHT) + shapes})
    opened = [row["id"] for row in run.rows if row["is_open"]]
    assert opened == ["sums/multiplication", "shapes/area", "shapes/multiplication"]


def test_requests_that_failed_are_no_answers(run_stage: Run) -> None:
    rows = exam("student", RIGHT)
    failed = [{**row, "id": f"{row['id']}x", "parent_id": "x", "error": "server"} for row in rows]
    one = run_stage(stage(), {"exam": rows}).rows
    assert run_stage(stage(), {"exam": rows + failed[:1]}).rows == one


def test_answers_without_a_verdict_are_no_errors(run_stage: Run) -> None:
    rows = exam("student", {"addition": 6}, n=12)
    for row in rows[6:]:
        row["is_correct"] = None
    run = run_stage(stage(prerequisites={}), {"exam": rows})
    (found,) = run.rows
    assert (found["n"], found["student_accuracy"], found["question_ids"]) == (6, 1, [])
    assert run.dropped == {"is_correct is null": 6}
    for change in ({"is_correct": None}, {"error": "gone"}):
        nothing = [{**row, **change} for row in rows]
        with pytest.raises(DataError, match="none of 12 answers of 'student' in 'exam' has a verd"):
            run_stage(stage(prerequisites={}), {"exam": nothing})


def test_what_is_wrong_is_told(run_stage: Run) -> None:
    with pytest.raises(ValidationError, match="circle"):
        stage(prerequisites={"a": ["b"], "b": ["a"]})
    rows = exam("student", RIGHT)
    with pytest.raises(DataError, match="no answers of 'pupil'"):
        run_stage(stage(student="pupil"), {"exam": rows})
    with pytest.raises(DataError, match="no item needs algebra; write them as"):
        run_stage(stage(prerequisites={"division": ["algebra"]}), {"exam": rows})
    with pytest.raises(DataError, match="two answers to item addition-0"):
        run_stage(stage(), {"exam": rows + rows[:1]})
