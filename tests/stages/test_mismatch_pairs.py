"""mismatch_pairs: an expert with a known rule, and a student that breaks it in known ways."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.errors import DataError
from llm_distill.evaluation.results import Results
from llm_distill.stages.mismatch_pairs import MismatchPairs

Run = Callable[..., Any]
FIELDS = ["evaluation", "action"]


def stage(**settings: Any) -> MismatchPairs:
    values = {"stage": "mismatch_pairs", "rows": "experts", "own": "students", "fields": FIELDS}
    return MismatchPairs.model_validate({**values, **settings})


def turn(evaluation: str, action: str) -> str:
    return json.dumps({"evaluation": evaluation, "action": action, "text": "Try."})


def world() -> dict[str, list[dict[str, Any]]]:
    """A hint at tries 1 and 2, the solution at 3; a student that hints, and fails in form."""
    experts, students = [], []
    for number in range(12):
        attempt = number % 3 + 1
        action = "solve" if attempt == 3 else "hint"
        name = f"d{number}"
        prompt = f"Dialogue {number}, try {attempt}"
        experts.append({"id": name, "prompt": prompt, "completion": turn("wrong", action)})
        own = {0: "No JSON", 1: '{"action": "hint"}'}.get(number, turn("wrong", "hint"))
        own = turn("right", "hint") if number == 2 else own
        students.append({"id": f"{name}-0", "parent_id": name, "completion": own, "error": None})
    return {"experts": experts, "students": students}


def test_pairs_are_where_the_student_breaks_the_rule(run_stage: Run) -> None:
    run = run_stage(stage(), world())
    assert Counter(row["kind"] for row in run.rows) == {
        "unreadable": 1, "missing": 1, "evaluation": 1, "action": 3,
    }  # fmt: skip
    by_id = {row["id"]: row for row in run.rows}
    assert by_id["mismatch-d2-0"]["mismatch_fields"] == ["evaluation", "action"]
    first = by_id["mismatch-d5-0"]
    assert first["prompt"] == "Dialogue 5, try 3"
    assert json.loads(first["chosen"])["action"] == "solve"
    assert json.loads(first["rejected"])["action"] == "hint"
    assert first["parent_id"] == "d5"
    assert run.dropped == {"no mismatch": 6}
    assert run.metrics["pairs"]["action"] == 3
    assert run.metrics["mismatches"] == {
        "unreadable": 1, "missing": 1, "evaluation": 1, "action": 4,
    }  # fmt: skip
    (table,) = Results.from_metrics(run.metrics).own
    found = {tuple(figure.labels.values()): figure.value for figure in table.figures}
    assert found["action", "first mismatch"] == pytest.approx(3 / 12)
    assert found["action", "any mismatch"] == pytest.approx(4 / 12)
    assert found["no mismatch", "first mismatch"] == 0.5


def test_kinds_are_left_out(run_stage: Run) -> None:
    run = run_stage(stage(leave_out=["unreadable", "missing"]), world())
    assert Counter(row["kind"] for row in run.rows) == {"evaluation": 1, "action": 3}
    assert run.dropped["left out: unreadable"] == run.dropped["left out: missing"] == 1
    run = run_stage(stage(fields=["action", "evaluation"]), world())
    assert Counter(row["kind"] for row in run.rows)["action"] == 4


def test_turns_that_cannot_be_compared(run_stage: Run) -> None:
    rows = world()
    rows["experts"][3]["completion"] = "No JSON"
    rows["experts"][4]["completion"] = '{"action": "hint"}'
    rows["students"][6]["error"] = "too long"
    rows["students"][7]["completion"] = ""
    run = run_stage(stage(), rows)
    assert run.metrics["compared"] == 8
    assert run.dropped == {
        "the expert's turn cannot be read": 1,
        "the expert's turn lacks a field": 1,
        "the student has no turn": 2,
        "no mismatch": 2,
    }


def test_conversations(run_stage: Run) -> None:
    rows = world()
    for row in rows["experts"]:
        asked = {"role": "user", "content": row["prompt"]}
        answer = {"role": "assistant", "content": row.pop("completion")}
        row["messages"] = [asked, answer]
        del row["prompt"]
    run = run_stage(stage(prompt_column="messages", text_column="messages"), rows)
    plain = run_stage(stage(), world())
    assert len(run.rows) == len(plain.rows) == 6
    for row, like in zip(run.rows, plain.rows, strict=True):
        assert row["prompt"] == [{"role": "user", "content": like["prompt"]}]
        for side in ("chosen", "rejected"):
            assert row[side] == [{"role": "assistant", "content": like[side]}]


def test_what_stops_it(run_stage: Run) -> None:
    rows = world()
    with pytest.raises(DataError, match="is no id of 'experts'"):
        run_stage(stage(), {**rows, "experts": rows["experts"][1:]})
    same = [{**row, "completion": turn("wrong", "hint")} for row in rows["students"][3:5]]
    with pytest.raises(DataError, match="makes a pair. Compared with the expert's: 2 no mismatch"):
        run_stage(stage(), {**rows, "students": same})
    for wrong, said in (
        ({"fields": ["missing"]}, "is the name of a kind"),
        ({"fields": ["a", "a"]}, "each can be named once"),
        ({"leave_out": ["state"]}, "'state' is none of unreadable, missing, evaluation, action"),
        ({"fields": ["a"], "leave_out": ["a", "unreadable", "missing"]}, "nothing is left"),
    ):
        with pytest.raises(ValidationError, match=said):
            stage(**wrong)


def test_thoughts_are_no_turn_and_a_blank_prompt_makes_no_pair(run_stage: Run) -> None:
    rows = world()
    thought = f"<think>{turn('wrong', 'solve')}</think>{turn('wrong', 'hint')}"
    rows["students"][5]["completion"] = thought  # its expert solves
    rows["experts"][8]["prompt"] = " "
    run = run_stage(stage(), rows)
    assert {row["id"] for row in run.rows if row["kind"] == "action"} >= {"mismatch-d5-0"}
    assert run.dropped["no prompt"] == 1
    with pytest.raises(DataError, match="not compared: 12 the expert's turn lacks a field"):
        run_stage(stage(fields=["state"]), world())
