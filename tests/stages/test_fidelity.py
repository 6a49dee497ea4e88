"""fidelity: rows of classification_report and of evaluate, and what cannot be compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.engines.base import Request
from llm_distill.errors import DataError
from llm_distill.evaluation.results import Results
from llm_distill.stages.classification_report import ClassificationReport
from llm_distill.stages.evaluate import Evaluate
from llm_distill.stages.fidelity import Fidelity

Run = Callable[..., Any]
RIGHT = ["a", "a", "b", "b", "c"]
TEACHER = ["a", "b", "b", "c", None]
COPY = TEACHER
OWN = ["a", "b", "c", "b", "c"]


def stage(**settings: Any) -> Fidelity:
    return Fidelity(**{"stage": "fidelity", "rows": "exam", "teacher": "teacher", **settings})


def exam(shots: int = 0, **answers: list[str | None]) -> list[dict[str, Any]]:
    return [
        {"id": f"t{i}-{name}-{shots}", "parent_id": f"t{i}", "model": name, "shots": shots,
         "answer": answer, "reference_answer": of, "is_correct": answer == of, "error": None}
        for name, given in answers.items()
        for i, (answer, of) in enumerate(zip(given, RIGHT, strict=True))
    ]  # fmt: skip


def figures(run: Any) -> dict[tuple[str, str], float]:
    (table,) = Results.from_metrics(run.metrics).own
    assert table.title == "beside teacher"
    assert table.drawn == ("agreement", "gain")
    return {(f.labels["model"], f.labels["of"]): f.value for f in table.figures}


def test_students_beside_their_teacher(run_stage: Run) -> None:
    run = run_stage(stage(), {"exam": exam(teacher=TEACHER, copy=COPY, own=OWN)})
    found = figures(run)
    assert found["copy", "where the teacher is wrong"] == 1
    assert found["copy", "gain"] == 0
    assert found["own", "right"] == 3 / 5
    assert found["own", "gain"] == pytest.approx(1 / 5)
    assert found["own", "agreement"] == 2 / 4  # of what the teacher answered
    assert found["own", "where the teacher is wrong"] == 1 / 2
    assert found["own", "where the teacher is right"] == 1 / 2
    assert len(run.rows) == 10
    assert run.rows[6] == {
        "id": "t1-own-0",
        "parent_id": "t1",
        "model": "own",
        "shots": 0,
        "answer": "b",
        "reference_answer": "a",
        "is_correct": False,
        "teacher_answer": "b",
        "teacher_is_correct": False,
        "agrees": True,
    }
    assert run.rows[9]["agrees"] is None
    one = run_stage(stage(students=["own"]), {"exam": exam(own=OWN, copy=COPY, teacher=TEACHER)})
    assert figures(one) == {key: value for key, value in found.items() if key[0] == "own"}


def test_a_classification_report_gives_probabilities_too(run_stage: Run) -> None:
    def labelled(names: list[str], p: list[float]) -> list[dict[str, Any]]:
        label = names[p.index(max(p))]
        row = {"label": label, "choices": names, "probabilities": p}
        return [{"id": f"t{i}", "reference_answer": "a", **row} for i in range(3)]

    rows = {"teacher": labelled(["a", "b"], [0.7, 0.3]), "own": labelled(["b", "a"], [0.3, 0.7])}
    report = ClassificationReport(stage="classification_report", rows=["teacher", "own"])
    run = run_stage(stage(), {"exam": run_stage(report, rows).rows})
    assert figures(run)["own", "probability loyalty"] == 1
    bad = [{**row, "probabilities": [0.2, 0.2]} for row in rows["own"]]
    broken = run_stage(report, {**rows, "own": bad}).rows
    with pytest.raises(DataError, match="'exam', teacher and own: .* add up to 1"):
        run_stage(stage(), {"exam": broken})


def test_label_sets_agree_where_they_are_the_same(run_stage: Run) -> None:
    """Their probabilities are of one yes or no each, and not compared."""

    def labelled(*sets: list[str] | None) -> list[dict[str, Any]]:
        likely = {"choices": ["a", "b"], "probabilities": [0.9, 0.8]}
        right = {"reference_labels": ["a"]}
        return [{"id": f"t{i}", "labels": of, **right, **likely} for i, of in enumerate(sets)]

    rows = {
        "teacher": labelled(["a", "b"], ["a"], [], None),
        "own": labelled(["b", "a"], ["a"], ["a"], ["a"]),
    }
    report = ClassificationReport(
        stage="classification_report", rows=["teacher", "own"], several=True
    )
    found = figures(run_stage(stage(), {"exam": run_stage(report, rows).rows}))
    assert found["own", "agreement"] == pytest.approx(2 / 3)
    assert found["own", "where the teacher is wrong"] == 1 / 2
    assert found["own", "gain"] == pytest.approx(2 / 4)
    assert ("own", "probability loyalty") not in found


def test_an_exam_of_models_that_write(run_stage: Run, tmp_path: Path) -> None:
    """Planted: the teacher adds one too many to even numbers; one student too, one never does."""

    def asked(request: Request) -> int:
        assert not isinstance(request.prompt, str)
        return int(request.prompt[0]["content"])

    def says(off_by: Callable[[int], int]) -> Callable[[Request], str]:
        return lambda request: f"<ans>{(n := asked(request)) + 1 + off_by(n)}</ans>"

    rule = says(lambda n: int(n % 2 == 0))
    answers = {"teacher": rule, "copy": rule, "own": says(lambda n: -int(n % 5 == 0))}
    (tmp_path / "exam.jinja").write_text("{{ question }}")
    models = {"models": list(answers), "template": str(tmp_path / "exam.jinja")}
    evaluate = Evaluate.model_validate({"stage": "evaluate", "rows": "items", **models})
    items = [{"id": f"i{n}", "question": str(n), "reference_answer": str(n + 1)} for n in range(20)]
    run = run_stage(evaluate, {"items": items}, answers)
    found = figures(run_stage(stage(), {"exam": run.rows}))
    assert found["copy", "where the teacher is wrong"] == 1
    assert found["own", "where the teacher is wrong"] == 0
    assert found["own", "where the teacher is right"] == 8 / 10
    assert found["own", "gain"] == pytest.approx(6 / 20)


def test_answers_are_compared_by_their_kind(run_stage: Run) -> None:
    rows = exam(teacher=["0.5", "1", "2", "3", "4"], own=["1/2", "7", "2.0", "3", "5"])
    exact = figures(run_stage(stage(), {"exam": rows}))
    as_math = figures(run_stage(stage(answer_kind="math"), {"exam": rows}))
    assert exact["own", "agreement"] == 1 / 5
    assert as_math["own", "agreement"] == 3 / 5


def test_each_number_of_examples_by_itself(run_stage: Run) -> None:
    rows = exam(teacher=TEACHER, own=OWN) + exam(3, teacher=RIGHT, own=RIGHT)
    run = run_stage(stage(), {"exam": rows})
    (table,) = Results.from_metrics(run.metrics).own
    found = {(f.labels["shots"], f.labels["of"]): f.value for f in table.figures}
    assert found["0", "agreement"] == 1 / 2
    assert found["3", "agreement"] == 1
    assert ("3", "where the teacher is wrong") not in found


def test_items_on_which_a_model_failed_are_left_out_for_all(run_stage: Run) -> None:
    rows = exam(teacher=TEACHER, copy=COPY, own=OWN)
    rows[11] = {**rows[11], "error": "time-out", "answer": None}
    run = run_stage(stage(), {"exam": rows})
    assert run.dropped == {"a model failed on the item": 1}
    assert {row["parent_id"] for row in run.rows} == {"t0", "t2", "t3", "t4"}
    assert figures(run)["own", "right"] == 3 / 4


@pytest.mark.parametrize(
    ("rows", "settings", "says"),
    [
        (exam(teacher=TEACHER, own=OWN), {"teacher": "techer"}, "did you mean 'teacher'"),
        (exam(teacher=TEACHER, own=OWN), {"students": ["owl"]}, "did you mean 'own'"),
        (exam(teacher=TEACHER), {}, "has rows of 'teacher' alone: no student"),
        (exam(teacher=TEACHER, own=OWN)[:-1], {}, "'teacher' answered item t4, and 'own' did not"),
        (exam(teacher=TEACHER, own=OWN) * 2, {}, "'teacher' has several answers to item t0"),
        (exam(teacher=TEACHER) + exam(3, own=OWN), {}, "'teacher' has no rows with shots: 3"),
        (
            [{**row, "is_correct": None} for row in exam(teacher=TEACHER, own=OWN)],
            {},
            "row t0-teacher-0 of 'exam' is neither right nor wrong",
        ),
    ],
)
def test_exams_that_cannot_be_compared(
    run_stage: Run, rows: list[Any], settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(DataError, match=says):
        run_stage(stage(**settings), {"exam": rows})


def test_settings_and_columns() -> None:
    with pytest.raises(ValidationError, match="each can be named once, and not the teacher"):
        stage(students=["teacher"])
    needed = {"id", "parent_id", "model", "shots", "answer", "is_correct"}
    assert stage().required_columns() == {"exam": needed}
    assert stage().output_columns({"exam": None}) is not None


GRADES = ["1", "2", "4", "5", "3"]


def graded(is_correct: Any = None, **answers: list[str | None]) -> list[dict[str, Any]]:
    return [{**row, "is_correct": is_correct} for row in exam(**answers)]


def test_grades_are_compared_as_numbers(run_stage: Run) -> None:
    own = ["2", "3", "5", "6", "lots"]
    rows = graded(teacher=GRADES, own=own)
    run = run_stage(stage(numbers=True), {"exam": rows})
    (table,) = Results.from_metrics(run.metrics).own
    found = {f.labels["of"]: (f.value, f.n) for f in table.figures}
    assert found == {
        "regression loyalty": (pytest.approx(1), 4),
        "explained": (pytest.approx(1 - 4 / 10), 4),
        "error": (pytest.approx(1), 4),
        "bias": (pytest.approx(1), 4),
    }
    assert table.drawn == ()
    assert run.dropped == {"no number of both teacher and own": 1}
    with pytest.raises(DataError, match=r"neither right nor wrong.* or numbers: true"):
        run_stage(stage(), {"exam": rows})


def test_grades_with_right_ones_have_both(run_stage: Run) -> None:
    run = run_stage(stage(numbers=True), {"exam": graded(True, teacher=GRADES, own=GRADES)})
    found = figures(run)
    assert found["own", "gain"] == 0
    assert found["own", "regression loyalty"] == pytest.approx(1)
    with pytest.raises(DataError, match=r"no item has numbers of both .*leave numbers out"):
        run_stage(stage(numbers=True), {"exam": exam(teacher=TEACHER, own=OWN)})
