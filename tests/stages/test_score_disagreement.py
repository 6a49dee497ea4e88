"""score_disagreement: how sure a student is, by question and not by order."""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import Any

import pytest

from llm_distill.errors import DataError
from llm_distill.stages.score_disagreement import ScoreDisagreement

Run = Callable[..., Any]
SEEDS = [
    {"id": "sure", "question": "2 + 2?", "reference_answer": "4"},
    {"id": "wrong", "question": "2 + 3?", "reference_answer": "5"},
    {"id": "torn", "question": "2 + 4?", "reference_answer": "6"},
    {"id": "open", "question": "Who?", "reference_answer": None},
    {"id": "silent", "question": "2 + 5?", "reference_answer": "7"},
]
ANSWERS: dict[str, list[str | None]] = {
    "sure": ["4", "4.", " 4", "4"],
    "wrong": ["6", "6", "6", "6"],
    "torn": ["6", "7", "6", None],
    "open": ["Ann", "Ben", "Cara", "Dan"],
}
SAMPLES = [
    {"id": f"{question}-{i}", "parent_id": question, "answer": answer, "error": None}
    for question, answers in ANSWERS.items()
    for i, answer in enumerate(answers)
]


def stage(**settings: Any) -> ScoreDisagreement:
    return ScoreDisagreement(
        stage="score_disagreement", rows="seeds", samples="samples", **settings
    )


def test_a_sure_student_may_be_wrong_and_a_torn_one_right(run_stage: Run) -> None:
    run = run_stage(stage(), {"seeds": SEEDS, "samples": SAMPLES})
    found = {
        row["id"]: (row["score"], row["answer_entropy"], row["error_rate"], row["n_answers"])
        for row in run.rows
    }
    assert found == {
        "sure": (0, 0, 0, 4),
        "wrong": (0, 0, 1, 4),
        "torn": (0.5, pytest.approx(1.5 * log(2)), 0.5, 4),
        "open": (0.75, pytest.approx(log(4)), None, 4),
        "silent": (None, None, None, 0),
    }
    assert run.warnings == ["1 of 5 rows have no sample, so no score"]
    assert (run.metrics["rows_scored"], run.metrics["unscored"]) == (4, 1)
    assert stage().output_columns({"seeds": frozenset(SEEDS[0])}) == set(run.rows[0])


def test_the_order_of_samples_does_not_matter(run_stage: Run) -> None:
    one = run_stage(stage(), {"seeds": SEEDS, "samples": SAMPLES}).rows
    apart = sorted(SAMPLES, key=lambda row: row["id"][-1], reverse=True)
    assert run_stage(stage(), {"seeds": SEEDS, "samples": apart}).rows == one


def test_a_failed_request_is_no_answer_of_the_student(run_stage: Run) -> None:
    failed = [
        {"id": "sure-9", "parent_id": "sure", "answer": None, "error": "server"},
        {"id": "silent-0", "parent_id": "silent", "answer": None, "error": "server"},
    ]
    rows = run_stage(stage(), {"seeds": SEEDS, "samples": [*SAMPLES, *failed]}).rows
    by_id = {row["id"]: row for row in rows}
    assert (by_id["sure"]["score"], by_id["sure"]["n_answers"]) == (0, 4)
    assert by_id["silent"]["score"] is None


def test_equality_is_the_one_that_is_asked_for(run_stage: Run) -> None:
    samples = [
        {"id": f"sure-{i}", "parent_id": "sure", "answer": answer}
        for i, answer in enumerate(["8/2", "4"])
    ]
    rows = {"seeds": SEEDS[:1], "samples": samples}
    assert run_stage(stage(answer_kind="math"), rows).rows[0]["error_rate"] == 0
    assert run_stage(stage(), rows).rows[0]["error_rate"] == 0.5


def test_samples_of_other_rows_and_single_ones_are_told(run_stage: Run) -> None:
    with pytest.raises(DataError, match="no row of 'samples' answers a row of 'seeds'"):
        run_stage(stage(), {"seeds": [{"id": "x"}], "samples": SAMPLES})
    run = run_stage(stage(), {"seeds": SEEDS[:1], "samples": SAMPLES[:1]})
    assert run.warnings == [
        "1 of 1 rows have one sample, which cannot disagree; raise n of 'samples'"
    ]
