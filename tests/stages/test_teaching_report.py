"""teaching_report: a pupil whose true utilities are known, and where all rankings coincide."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.errors import DataError
from llm_distill.evaluation.results import Results
from llm_distill.stages.teaching_report import TeachingReport
from tests.pupils import RIGHT, items

Run = Callable[..., Any]
RANKINGS: dict[str, Any] = {
    "utility": {"by": "utility"},
    "misaligned": {"by": "utility", "order": "lowest"},
    "other pupil": {"by": "other"},
}


def stage(**settings: Any) -> TeachingReport:
    return TeachingReport.model_validate(
        {"stage": "teaching_report", "rows": "rows", "rankings": RANKINGS, **settings}
    )


def outcomes(n: int = 10) -> list[dict[str, Any]]:
    """60 rows of a pupil that lacks `taking`, with what a model of it and of another would say."""
    other = items("x", n, "adding")
    rows = []
    for row, of_other in zip(items("x", n, "taking"), other, strict=True):
        sides = [
            (each["answer_with"] == RIGHT) - (each["answer_without"] == RIGHT)
            for each in (row, of_other)
        ]
        rows.append(
            {
                "id": row["id"],
                "correct_without": row["answer_without"] == RIGHT,
                "correct_with": row["answer_with"] == RIGHT,
                "utility": 0.8 * sides[0],
                "other": 0.8 * sides[1],
            }
        )
    return rows


def curve(run: Any, name: str, column: str = "accuracy") -> list[float]:
    return [row[column] for row in run.rows if row["ranking"] == name]


def test_the_curves_of_a_known_pupil(run_stage: Run) -> None:
    run = run_stage(stage(), {"rows": outcomes()})
    # 30 of 60 are right without help; 10 of the others are helped, and 10 of these misled.
    assert [row["n_explained"] for row in run.rows[::5]] == [0, 12, 24, 36, 48, 60]
    best = [0.5, 40 / 60, 40 / 60, 40 / 60, 40 / 60, 0.5]
    assert curve(run, "oracle") == pytest.approx(best)
    assert curve(run, "utility") == pytest.approx([0.5, *[40 / 60] * 3, 38 / 60 + 2 / 60, 0.5])
    assert curve(run, "misaligned") == pytest.approx([0.5, *[20 / 60] * 4, 0.5])
    assert curve(run, "random") == pytest.approx([0.5] * 6)
    assert curve(run, "other pupil") == pytest.approx([0.5] * 6)
    assert all(low > 0 for low in curve(run, "utility", "difference_low")[1:5])
    assert all(high < 0 for high in curve(run, "misaligned", "difference_high")[1:5])
    assert (run.metrics["turned_right"], run.metrics["turned_wrong"]) == (10, 10)
    *_, table = Results.from_metrics(run.metrics).own
    found = {figure.labels["ranking"]: figure.value for figure in table.figures}
    assert found == pytest.approx({"utility": 1, "misaligned": -1, "other pupil": 0}, abs=1e-9)


def test_the_ends_coincide_exactly(run_stage: Run) -> None:
    draw = random.Random(0)
    rows = [
        {
            "id": f"r{number}",
            "correct_without": draw.random() < 0.4,
            "correct_with": draw.random() < 0.6,
            "utility": draw.random(),
            "other": draw.choice([None, 0.1]),
        }
        for number in range(37)
    ]
    run = run_stage(stage(budgets=[0, 1]), {"rows": rows})
    for budget, side in ((0, "correct_without"), (1, "correct_with")):
        lines = [row for row in run.rows if row["budget"] == budget]
        assert len({(row["accuracy"], row["low"], row["high"]) for row in lines}) == 1
        assert lines[0]["accuracy"] == sum(row[side] for row in rows) / 37
        assert {row["difference"] for row in lines} == {0}
    assert "rows have no score by other pupil: they are explained last" in run.warnings[0]


def test_the_order_of_rows_does_not_matter(run_stage: Run) -> None:
    """Up to the bootstrap's draws, which are of rows by place."""
    there, back = (run_stage(stage(), {"rows": outcomes()[::step]}).rows for step in (1, -1))
    assert [row["accuracy"] for row in there] == pytest.approx([row["accuracy"] for row in back])


def test_the_report_draws_the_curve(run_stage: Run) -> None:
    run = run_stage(stage(), {"rows": outcomes()})
    first, second, _ = Results.from_metrics(run.metrics).own
    assert (first.across, first.over) == ("ranking", "budget")
    assert first.drawn == ("utility", "misaligned", "other pupil", "random", "oracle")
    assert [cells[0] for cells in first.cells] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    assert {figure.kind for figure in second.figures} == {"points"}
    assert "random" not in {figure.labels["ranking"] for figure in second.figures}


def test_answers_are_compared_here(run_stage: Run) -> None:
    rows = [
        {**row, "answer_with": f" {row['answer_with']}. ", "utility": 0.0, "other": 0.0}
        for row in items("x", 1, "taking")
    ]
    rows[0]["reference_answer"] = None
    run = run_stage(stage(answer_kind="exact"), {"rows": rows})
    assert run.dropped == {"no outcome": 1}
    assert curve(run, "random")[0] == pytest.approx(2 / 5)
    assert curve(run, "random")[-1] == pytest.approx(2 / 5)


def test_what_cannot_be_reported(run_stage: Run) -> None:
    for name, value, said in (
        ("correct_with", 0.5, "is 0.5, neither true nor false"),
        ("utility", "high", "not a number"),
    ):
        rows = [{**outcomes(1)[0], name: value}]
        with pytest.raises(DataError, match=said):
            run_stage(stage(), {"rows": rows})
    none = [{**row, "utility": None} for row in outcomes(1)]
    with pytest.raises(DataError, match=r"rankings.utility: no row of 'rows' has a number"):
        run_stage(stage(), {"rows": none})
    none = [{**row, "correct_with": None} for row in outcomes(1)]
    with pytest.raises(DataError, match="no row of 'rows' has an outcome both"):
        run_stage(stage(), {"rows": none})
    with pytest.raises(ValidationError, match="oracle is always there"):
        stage(rankings={"oracle": {"by": "utility"}})
    with pytest.raises(ValidationError, match="each can be named once"):
        stage(budgets=[0.2, 0.2])
    with pytest.raises(ValidationError, match="differ in six digits"):
        stage(budgets=[0.2, 0.20000001])
