"""classification_report: tables by hand, and what cannot be compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.errors import DataError
from llm_distill.evaluation.results import Results
from llm_distill.methods.classification import macro_f1, macro_f1_difference
from llm_distill.stages.classification_report import ClassificationReport

Run = Callable[..., Any]
RIGHT = ["a", "a", "a", "b", "b", "c"]
TEACHER = ["a", "a", "b", "b", None, "c"]
STUDENT = ["a", "a", "a", "b", "a", "b"]


def stage(*names: str, **settings: Any) -> ClassificationReport:
    return ClassificationReport(stage="classification_report", rows=[*names], **settings)


def rows(
    labels: list[str | None], right: list[str | None] | None = None, **more: list[Any]
) -> list[dict[str, Any]]:
    made = [
        {"id": f"t{i}", "label": label, "reference_answer": of}
        for i, (label, of) in enumerate(zip(labels, right or RIGHT, strict=True))
    ]
    for name, values in more.items():
        for row, value in zip(made, values, strict=True):
            row[name] = value
    return made


def own(run: Any, title: str) -> list[tuple[dict[str, str], float]]:
    (table,) = [t for t in Results.from_metrics(run.metrics).own if t.title == title]
    return [(dict(figure.labels), figure.value) for figure in table.figures]


def test_several_stages_over_the_same_items(run_stage: Run) -> None:
    given = {"teacher": rows(TEACHER), "student": rows(STUDENT)[::-1]}
    run = run_stage(stage("teacher", "student"), given)
    assert run.rows[4] == {
        "id": "t4-teacher",
        "parent_id": "t4",
        "model": "teacher",
        "shots": 0,
        "answer": None,
        "reference_answer": "b",
        "is_correct": False,
        "choices": None,
        "probabilities": None,
    }
    results = Results.from_metrics(run.metrics)
    assert [(r.model, r.accuracy, r.parse_failures) for r in results.exam] == [
        ("teacher", 4 / 6, 1),
        ("student", 4 / 6, 0),
    ]
    (change,) = results.differences
    assert (change.model, change.baseline, change.difference) == ("student", "teacher", 0)
    constant = own(run, "accuracy of the most frequent answer")
    assert constant == [({"model": "always a"}, 3 / 6)]
    macro = {of["model"]: value for of, value in own(run, "macro-F1")}
    assert macro == {
        "always a": pytest.approx(2 * 3 / 9 / 3),
        "teacher": pytest.approx(macro_f1(RIGHT, TEACHER).value),
        "student": pytest.approx(macro_f1(RIGHT, STUDENT).value),
    }
    ((of, paired),) = own(run, "macro-F1, paired")
    assert of == {"difference": "student − teacher"}
    assert paired == pytest.approx(macro_f1_difference(RIGHT, TEACHER, STUDENT).value)
    confused = {(at["right label"], at["given"]): v for at, v in own(run, "teacher, confusions")}
    assert confused["a", "b"] == 1
    assert confused["b", "(none)"] == 1
    assert len(confused) == 12
    of_b = {at["of"]: v for at, v in own(run, "student, by label") if at["label"] == "b"}
    assert of_b == {"precision": 0.5, "recall": 0.5, "F1": 0.5, "items": 2}


def test_calibration_where_confidences_are_known(run_stage: Run) -> None:
    sure = [0.9, 0.8, 0.6, 0.7, None, 0.5]
    run = run_stage(stage("teacher"), {"teacher": rows(TEACHER, confidence=sure)})
    ((labels, error),) = own(run, "expected calibration error")
    assert labels == {"model": "teacher"}
    assert error == pytest.approx((0.1 + 0.2 + 0.6 + 0.3 + 0.5) / 5)
    (table,) = [t for t in Results.from_metrics(run.metrics).own if "error" in t.title]
    (figure,) = table.figures
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low <= figure.value < figure.high
    assert "calibration, by confidence in %" in {
        table.title for table in Results.from_metrics(run.metrics).own
    }
    likely = {"choices": [["a", "b"]] * 6, "probabilities": [[0.4, 0.6]] * 6}
    passed = run_stage(stage("teacher"), {"teacher": rows(TEACHER, **likely)}).rows[0]
    assert (passed["choices"], passed["probabilities"]) == (["a", "b"], [0.4, 0.6])
    plain = run_stage(stage("teacher"), {"teacher": rows(TEACHER)})
    titles = [table.title for table in Results.from_metrics(plain.metrics).own]
    assert titles[1:] == ["macro-F1", "teacher, by label", "teacher, confusions"]


@pytest.mark.parametrize("wrong", [97, -0.1, float("nan"), "high"])
def test_a_confidence_that_is_no_share_is_said_with_its_row(run_stage: Run, wrong: Any) -> None:
    given = {"teacher": rows(TEACHER, confidence=[None, wrong, *[None] * 4])}
    with pytest.raises(DataError, match="row t1 of 'teacher': confidence is .*within 0 to 1"):
        run_stage(stage("teacher"), given)


def test_rows_without_a_right_label_are_counted(run_stage: Run) -> None:
    run = run_stage(stage("x"), {"x": rows(TEACHER, [*RIGHT[:5], None])})
    assert run.dropped == {"no reference_answer": 1}
    assert len(run.rows) == 5
    with pytest.raises(DataError, match="no row of 'x' has a reference_answer"):
        run_stage(stage("x"), {"x": rows(["a", "b"], [None, None])})


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (rows(TEACHER[:5], RIGHT[:5]), "'student' has no row t5, which 'teacher' has .1 such"),
        (rows(TEACHER, [*RIGHT[:5], "a"]), "row t5 of 'student' has the right label 'a', and 'c'"),
        (rows([*TEACHER, "a"], [*RIGHT, "a"]), "'teacher' has no row t6 .*which 'student' has"),
    ],
)
def test_other_items_are_refused(run_stage: Run, other: list[Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        run_stage(stage("teacher", "student"), {"teacher": rows(TEACHER), "student": other})


def test_spellings_are_said_and_an_empty_label_is_none(run_stage: Run) -> None:
    run = run_stage(stage("x"), {"x": rows(["A", *TEACHER[1:]], [*RIGHT[:5], " "])})
    assert run.dropped == {"no reference_answer": 1}
    assert len(run.warnings) == 1
    assert "'A' and 'a'" in run.warnings[0]


def test_each_stage_once() -> None:
    with pytest.raises(ValidationError, match="each stage can be named once"):
        stage("x", "x")


def of_sets(sets: list[Any], right: list[Any]) -> list[dict[str, Any]]:
    return [
        {"id": f"t{i}", "labels": labels, "reference_labels": of}
        for i, (labels, of) in enumerate(zip(sets, right, strict=True))
    ]


def test_several_labels_a_text(run_stage: Run) -> None:
    right = [["a"], ["b", "a"], [], ["c"]]
    given = {
        "teacher": of_sets([["a"], ["a", "b"], ["c"], None], right),
        "student": of_sets([["a", "a"], ["a"], [], ["c"]], right)[::-1],
    }
    run = run_stage(stage("teacher", "student", several=True), given)
    right_of = {row["id"]: row["is_correct"] for row in run.rows}
    assert [right_of[f"t{i}-teacher"] for i in range(4)] == [True, True, False, False]
    assert [right_of[f"t{i}-student"] for i in range(4)] == [True, False, True, True]
    assert (run.rows[1]["answer"], run.rows[1]["reference_answer"]) == ("a; b", "a; b")
    assert (run.rows[2]["reference_answer"], run.rows[3]["answer"]) == ("", None)
    results = Results.from_metrics(run.metrics)
    assert [(r.accuracy, r.parse_failures) for r in results.exam] == [(0.5, 1), (0.75, 0)]
    assert results.differences[0].difference == 0.25
    constant = own(run, "accuracy of the most frequent answer")
    assert constant == [({"model": "always none"}, 1 / 4)]
    micro = {of["model"]: value for of, value in own(run, "micro-F1")}
    assert micro == {
        "always none": 0,
        "teacher": pytest.approx(2 * 3 / (4 + 4)),
        "student": pytest.approx(2 * 3 / (4 + 3)),
    }
    macro = {of["model"]: value for of, value in own(run, "macro-F1")}
    assert macro["student"] == pytest.approx((1 + 0 + 1) / 3)
    ((_, paired),) = own(run, "micro-F1, paired")
    assert paired == pytest.approx(6 / 7 - 6 / 8)


def test_one_label_and_several_are_not_mixed(run_stage: Run) -> None:
    made = stage("x", several=True, label_column="label", reference_column="reference_answer")
    with pytest.raises(DataError, match="is the text 'a', and several: true reads lists"):
        run_stage(made, {"x": rows(TEACHER)})
    with pytest.raises(DataError, match="no row of 'x' has a label in reference_labels"):
        run_stage(stage("x", several=True), {"x": of_sets([["a"]], [[]])})


def test_by_the_values_of_a_column(run_stage: Run) -> None:
    kinds = ["x", "x", "x", "x", "y", "y"]
    given = {"teacher": rows(TEACHER, kind=kinds), "student": rows(STUDENT)[::-1]}
    run = run_stage(stage("teacher", "student", by=["kind"]), given)
    assert own(run, "accuracy by kind") == [
        ({"kind": "x", "model": "teacher"}, 3 / 4),
        ({"kind": "x", "model": "student"}, 1.0),
        ({"kind": "y", "model": "teacher"}, 1 / 2),
        ({"kind": "y", "model": "student"}, 0.0),
    ]
    assert [value for _, value in own(run, "accuracy by kind, paired")] == [1 / 4, -1 / 2]
    assert "kind" in stage("teacher", "student", by=["kind"]).required_columns()["teacher"]
    given["teacher"] = rows(TEACHER, kind=[None if kind == "y" else kind for kind in kinds])
    run = run_stage(stage("teacher", "student", by=["kind"]), given)
    assert ({"kind": "(none)", "model": "teacher"}, 1 / 2) in own(run, "accuracy by kind")
