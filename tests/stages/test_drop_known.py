"""drop_known: what a student answers in k samples is left out, and everything is counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.engines.base import Completion, Request
from llm_distill.errors import DataError
from llm_distill.stages.drop_known import DropKnown

Row = dict[str, Any]
Run = Callable[..., Any]

ROWS = [
    {"id": f"n{i}", "task": "s", "question": f"{a} + 2?", "reference_answer": str(a + 2)}
    for i, a in enumerate((1, 2, 3, 4))
]
SAMPLED = {"temperature": 0.7, "max_tokens": 20}


def stage(**settings: Any) -> DropKnown:
    return DropKnown(
        stage="drop_known",
        rows="new",
        model="student",
        template="stat/exam.jinja",
        variables={"task_description": "Solve."},
        **settings,
    )


def knows(*numbers: int) -> Callable[[Request], str]:
    """Right about these, and one too many otherwise."""

    def say(request: Request) -> str:
        a = int(str(request.prompt).partition("Question: ")[2].partition(" +")[0])
        return f"<ans>{a + 2 + (a not in numbers)}</ans>"

    return say


def test_what_it_knows_is_left_out(run_stage: Run) -> None:
    run = run_stage(stage(), {"new": ROWS}, {"student": knows(1, 4)})
    assert [row["id"] for row in run.rows] == ["n1", "n2"]
    assert run.rows[0] == {**ROWS[1], "student_accuracy": 0.0}
    assert (run.dropped, run.warnings) == ({"known": 2}, [])
    assert (run.metrics["questions"], run.metrics["known_rows"]) == (4, 2)


def test_if_it_knows_all_nothing_is_passed_on_with_a_warning(run_stage: Run) -> None:
    run = run_stage(stage(), {"new": ROWS}, {"student": knows(1, 2, 3, 4)})
    assert (run.rows, run.dropped) == ([], {"known": 4})
    (warning,) = run.warnings
    assert warning.startswith("'student' answers all 4 rows of 'new' rightly: no row is passed on")
    unusable = [*ROWS, {**ROWS[0], "id": "x", "reference_answer": None}]
    run = run_stage(stage(), {"new": unusable}, {"student": knows(1, 2, 3, 4)})
    assert (run.rows, run.dropped["known"], len(run.dropped)) == ([], 4, 2)
    (warning,) = run.warnings
    assert "all 4 rows of 'new' rightly (1 more cannot be judged): no row is passed" in warning
    none = run_stage(stage(), {"new": []}, {"student": knows()})
    assert (none.rows, none.warnings) == ([], [])
    assert stage().may_be_empty() == ("new",)


@pytest.mark.parametrize(("n_right", "kept"), [(None, {"n0": 2 / 3}), (2, {}), (3, {"n0": 2 / 3})])
def test_how_many_of_k_samples_are_enough(
    run_stage: Run, n_right: int | None, kept: dict[str, float]
) -> None:
    asked: list[Request] = []

    def say(request: Request) -> str:
        asked.append(request)
        return "<ans>4</ans>" if len(asked) == 2 else "<ans>3</ans>"

    run = run_stage(
        stage(samples=3, sampling=SAMPLED, n_right=n_right), {"new": ROWS[:1]}, {"student": say}
    )
    assert {row["id"]: row["student_accuracy"] for row in run.rows} == kept
    assert len({request.seed for request in asked}) == 3


def test_a_question_of_several_rows_is_asked_once(run_stage: Run) -> None:
    """As after a consensus: each of the agreeing solutions is a row."""
    again = [{**ROWS[0], "id": f"n0-{i}", "question": f"1  +  2{'?' * 1}"} for i in range(3)]
    other = {**ROWS[0], "id": "n9", "reference_answer": "7"}
    asked: list[Request] = []

    def say(request: Request) -> str:
        asked.append(request)
        return "<ans>3</ans>"

    run = run_stage(stage(), {"new": [*again, other]}, {"student": say})
    assert len(asked) == 1
    assert [row["id"] for row in run.rows] == ["n9"]  # judged by its own reference


class _Fails:
    def generate(self, requests: Any) -> Any:
        for index, request in enumerate(requests):
            error = "too long" if index == 1 else None
            yield Completion(request.id, "" if error else "<ans>0</ans>", "stop", error=error)

    def close(self) -> None: ...


def test_what_cannot_be_judged_is_counted(run_stage: Run) -> None:
    rows = [*ROWS, {**ROWS[0], "id": "x", "reference_answer": " "}, {**ROWS[0], "id": "y"}]
    rows[-1]["question"] = None
    run = run_stage(stage(max_error_rate=0.5), {"new": rows}, engines={"student": _Fails})
    assert [row["id"] for row in run.rows] == ["n0", "n2", "n3"]
    assert run.dropped == {
        "the student failed": 1, "no question or no usable reference_answer": 2
    }  # fmt: skip
    assert run.warnings == []
    blank = [{**row, "reference_answer": None} for row in ROWS]
    with pytest.raises(DataError, match="no row of 'new' has both a question and a reference_ans"):
        run_stage(stage(), {"new": blank}, {"student": knows()})
    words = [{**row, "reference_answer": "many"} for row in ROWS]
    with pytest.raises(
        DataError, match=r"none of 4 rows of 'new' can be judged.*answer_kind: tool_c"
    ):
        run_stage(stage(answer_kind="tool_call"), {"new": words}, {"student": knows()})


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(ValidationError, match="samples: 3 at temperature 0"):
        stage(samples=3)
    with pytest.raises(ValidationError, match="n_right: 4 of 3 samples"):
        stage(samples=3, sampling=SAMPLED, n_right=4)
    assert stage(samples=3, sampling=SAMPLED).most_asked({"new": 5}) == {"student": (15, 20)}
    assert stage(samples=3, sampling=SAMPLED).is_seeded()
    assert not stage().is_seeded()
