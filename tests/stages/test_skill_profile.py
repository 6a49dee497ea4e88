"""skill_profile: rows of skills, and a student that lacks none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llm_distill.errors import DataError
from llm_distill.stages.skill_profile import SkillProfile

Run = Callable[..., Any]
STAGE = SkillProfile(stage="skill_profile", rows="missing")


def rows(*missing: tuple[str, list[str] | None]) -> dict[str, list[dict[str, Any]]]:
    return {
        "missing": [
            {"id": f"v{i}", "task": task, "missing_skills": skills}
            for i, (task, skills) in enumerate(missing)
        ]
    }


def test_one_row_a_task_and_skill(run_stage: Run) -> None:
    given = rows(
        ("sums", ["carrying", "Solving Equations"]),
        ("dates", ["solving_equations"]),
        ("sums", ["carrying", "carrying"]),
        ("sums", []),
        ("sums", None),
    )
    run = run_stage(STAGE, given)
    assert [(r["id"], r["count"], r["weight"], r["question_ids"]) for r in run.rows] == [
        ("sums/carrying", 2, 0.5, ["v0", "v2"]),
        ("dates/solving_equations", 1, 0.25, ["v1"]),
        ("sums/solving_equations", 1, 0.25, ["v0"]),
    ]
    for row in run.rows:
        assert 0 <= row["weight_low"] <= row["weight"] <= row["weight_high"] <= 1
    assert sum(row["weight"] for row in run.rows) == 1
    assert STAGE.output_columns({}) == set(run.features) == set(run.rows[0])
    counts = {k: run.metrics[k] for k in ("n_questions", "n_labels", "n_unlabelled")}
    assert counts == {"n_questions": 5, "n_labels": 4, "n_unlabelled": 2}
    assert run.metrics["skill_profile"][0] == {
        k: v for k, v in run.rows[0].items() if k != "question_ids"
    }
    assert run.warnings == []


def test_rows_without_a_task(run_stage: Run) -> None:
    given = {"missing": [{"id": "v", "missing_skills": ["a"]}]}
    (row,) = run_stage(STAGE, given).rows
    assert (row["id"], row["task"], row["weight"]) == ("a", "", 1.0)
    assert (row["weight_low"], row["weight_high"]) == (1.0, 1.0)


def test_questions_without_any_skill_are_an_error(run_stage: Run) -> None:
    with pytest.raises(DataError, match="for any of the 2 questions of 'missing'"):
        run_stage(STAGE, rows(("sums", []), ("sums", None)))
