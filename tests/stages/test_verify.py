"""verify: right, wrong, missing and unusable, each counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from llm_distill.evaluation.results import Results
from llm_distill.stages.verify import Verify

Run = Callable[..., Any]


def stage(**settings: Any) -> Verify:
    return Verify(stage="verify", rows="rows", **settings)


def rows(*pairs: tuple[Any, Any]) -> list[dict[str, Any]]:
    return [
        {"id": f"r{i}", "answer": answer, "reference_answer": reference}
        for i, (answer, reference) in enumerate(pairs)
    ]


GIVEN = rows(("7.", "7"), ("8", "7"), (None, "7"), ("7", None), ("7", " "), ("", "7"))


def test_answers_are_marked_and_counted(run_stage: Run) -> None:
    run = run_stage(stage(), {"rows": GIVEN})
    assert [(row["id"], row["is_correct"]) for row in run.rows] == [
        ("r0", True),
        ("r1", False),
        ("r2", False),
        ("r5", False),
    ]
    assert run.metrics == {
        "n": 4,
        "accuracy": 0.25,
        "parse_failures": 2,
        "unusable_references": 2,
    }
    assert run.dropped == {"unusable reference": 2}
    (warning,) = run.warnings
    assert "2 rows" in warning
    assert "'r3'" in warning


def test_wrong_answers_can_be_dropped(run_stage: Run) -> None:
    run = run_stage(stage(drop_wrong=True), {"rows": GIVEN[:3]})
    assert [row["id"] for row in run.rows] == ["r0"]
    assert run.dropped == {"wrong answer": 1, "no answer": 1}
    assert run.metrics["accuracy"] == pytest.approx(1 / 3)
    assert run.warnings == []


@pytest.mark.parametrize(("kind", "right"), [("exact", 1), ("choice", 2), ("math", 2)])
def test_kinds_differ(kind: str, right: int, run_stage: Run) -> None:
    given = rows(("(A) cat", "(A)"), ("1/2", "0.5"), ("x", "x"))
    run = run_stage(stage(kind=kind), {"rows": given})
    assert sum(row["is_correct"] for row in run.rows) == right
    assert run.metrics["unusable_references"] == 0


def test_numbers_in_other_columns_are_compared_as_written(run_stage: Run) -> None:
    given = [{"id": "a", "said": 7, "label": "7"}, {"id": "b", "said": 8, "label": "7"}]
    run = run_stage(stage(answer_column="said", reference_column="label"), {"rows": given})
    assert [row["is_correct"] for row in run.rows] == [True, False]


def test_columns() -> None:
    settings = stage(answer_column="a", reference_column="b")
    assert settings.required_columns() == {"rows": {"id", "a", "b"}}
    assert settings.output_columns({"rows": frozenset({"id"})}) == {"id", "is_correct"}
    assert settings.output_columns({"rows": None}) is None


def test_what_names_no_choice_is_unreadable_and_not_wrong(run_stage: Run) -> None:
    given = rows(("**B**", "(B)"), ("A) and B)", "B"), ("C", "B"), ("I cannot say", "B"))
    run = run_stage(stage(kind="choice", drop_wrong=True), {"rows": given})
    assert [row["id"] for row in run.rows] == ["r0"]
    assert run.metrics["parse_failures"] == 2
    assert run.dropped == {"no answer": 2, "wrong answer": 1}


def test_the_tolerance_of_mathematics_can_be_set(run_stage: Run) -> None:
    given = rows(("0.333", "1/3"), ("5 m", "5 km"))
    assert run_stage(stage(kind="math"), {"rows": given}).metrics["accuracy"] == 0
    loose = run_stage(stage(kind="math", tolerance=0.01), {"rows": given})
    assert [row["is_correct"] for row in loose.rows] == [True, False]


def test_calls_of_tools_must_fit_reference_and_schema(run_stage: Run) -> None:
    def calls(**arguments: Any) -> str:
        return json.dumps([{"name": "f", "arguments": arguments}])

    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    tools = json.dumps([{"name": "f", "parameters": schema}])
    given = rows((calls(a=1), calls(a=1)), (calls(a=2), calls(a=1)), (None, calls(a=1)))
    given += [{**rows((calls(a="x"), calls(a="x")))[0], "id": "bad"}]
    with_tools = [{**row, "tools": tools} for row in given]
    run = run_stage(stage(kind="tool_call"), {"rows": with_tools})
    assert [row["is_correct"] for row in run.rows] == [True, False, False, False]
    assert (run.metrics["against_schema"], run.metrics["parse_failures"]) == (1, 1)
    run = run_stage(stage(kind="tool_call"), {"rows": [{**row, "tools": None} for row in given]})
    assert run.rows[-1]["is_correct"]


def test_a_failure_is_no_decision_to_call_nothing(run_stage: Run) -> None:
    given = rows((None, "[]"), (None, "[]"))
    given[1]["error"] = "gave up"
    given[0]["error"] = None
    run = run_stage(stage(kind="tool_call"), {"rows": given})
    assert [row["is_correct"] for row in run.rows] == [True, False]


STEPS = [
    {"id": "a", "answer": "9", "reference_answer": "9", "rationale": "3 + 4 = 7. 7 + 2 = 9."},
    {"id": "b", "answer": "10", "reference_answer": "9", "rationale": "3 + 4 = 8. 8 + 2 = 10."},
    {"id": "c", "answer": "9", "reference_answer": "9", "rationale": "I know it."},
    {"id": "d", "answer": "5", "reference_answer": "9", "rationale": None},
    {"id": "e", "answer": "9", "reference_answer": None, "rationale": "1 + 1 = 3."},
]


def test_wrong_steps_are_counted_by_whether_the_answer_is_right(run_stage: Run) -> None:
    run = run_stage(stage(steps_column="rationale"), {"rows": STEPS})
    assert [(row["id"], row["step_errors"], row["n_steps"]) for row in run.rows] == [
        ("a", 0, 2), ("b", 1, 2), ("c", 0, 0), ("d", 0, 0)
    ]  # fmt: skip
    assert run.metrics["wrong_steps"] == {"right": [0, 2], "wrong": [1, 2]}
    (table,) = Results.from_metrics(run.metrics).own
    assert [(f.labels["answer"], f.value, f.n) for f in table.figures] == [
        ("any", 0.25, 4), ("right", 0, 2), ("wrong", 0.5, 2)
    ]  # fmt: skip


def test_the_steps_of_what_is_dropped_count(run_stage: Run) -> None:
    run = run_stage(stage(steps_column="rationale", drop_wrong=True), {"rows": STEPS})
    assert [row["id"] for row in run.rows] == ["a", "c"]
    assert run.metrics["wrong_steps"]["wrong"] == [1, 2]


def test_columns_with_steps() -> None:
    settings = stage(steps_column="way")
    assert settings.required_columns() == {"rows": {"id", "answer", "reference_answer", "way"}}
    assert settings.output_columns({"rows": frozenset({"id"})}) == {
        "id", "is_correct", "step_errors", "n_steps"
    }  # fmt: skip


def test_without_a_step_there_is_no_table(run_stage: Run) -> None:
    run = run_stage(stage(steps_column="rationale"), {"rows": STEPS[2:3]})
    assert Results.from_metrics(run.metrics).own == ()
