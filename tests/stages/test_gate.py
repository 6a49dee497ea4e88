"""gate: which model passes, what the message says, and what is no comparison."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.errors import ConfigError, DataError, GateError
from llm_distill.evaluation.exam_results import ExamResults
from llm_distill.evaluation.lm_eval_results import sample_row
from llm_distill.evaluation.results import Results
from llm_distill.pipeline.load import load_pipeline
from llm_distill.stages.classification_report import ClassificationReport
from llm_distill.stages.gate import Gate

Run = Callable[..., Any]


def exam(new: float, old: float, n: int = 100, shots: int = 0) -> list[dict[str, Any]]:
    """`new` and `old` of the n items are answered rightly, each model's first ones."""
    return [
        {
            "id": f"t{i}-{model}-{shots}-0",
            "parent_id": f"t{i}",
            "model": model,
            "shots": shots,
            "candidate_index": 0,
            "question": f"{i}?",
            "reference_answer": "4",
            "answer": "4",
            "is_correct": i < share * n,
            "error": None,
            "finish_reason": "stop",
            "n_completion_tokens": 1,
        }
        for model, share in (("old", old), ("new", new), ("other", 0.5))
        for i in range(n)
    ]


def gate(*exams: str, **settings: Any) -> Gate:
    return Gate(stage="gate", exams=[*exams], model="new", than="old", **settings)


@pytest.mark.parametrize(
    ("new", "settings", "passes"),
    [
        (0.70, {}, True),
        (0.69, {}, True),  # not shown to be worse
        (0.50, {}, False),
        (0.50, {"tolerance": 0.3}, True),
        (0.50, {"tolerance": 0.1}, False),
        (0.90, {}, True),
        (0.70, {"require": "better"}, False),
        (0.71, {"require": "better"}, False),
        (0.90, {"require": "better"}, True),
        (0.90, {"require": "better", "tolerance": 0.3}, False),
    ],
)
def test_who_passes(run_stage: Run, new: float, settings: dict[str, Any], passes: bool) -> None:
    given = {"exam": exam(new, 0.7)}
    if passes:
        (row,) = run_stage(gate("exam", **settings), given).rows
        assert row["accuracy"] == pytest.approx(new)
        assert row["than_accuracy"] == pytest.approx(0.7)
    else:
        with pytest.raises(GateError, match="'new' does not pass"):
            run_stage(gate("exam", **settings), given)


def test_rows_are_what_evaluate_found(run_stage: Run) -> None:
    given = {"exam": exam(0.8, 0.7), "hard": [*exam(0.3, 0.3, 40), *exam(0.4, 0.3, 40, shots=3)]}
    run = run_stage(gate("exam", "hard"), given)
    assert [(row["id"], row["verdict"]) for row in run.rows] == [
        ("exam, 0-shot", "better"),
        ("hard, 0-shot", "undecided"),
        ("hard, 3-shot", "better"),
    ]
    results = ExamResults()
    for row in given["exam"]:
        results.add(row)
    theirs = next(d for d in results.measured().differences if d.model == "new")
    row = run.rows[0]
    assert [row["difference"], row["low"], row["high"], row["n_items"]] == [
        theirs.difference,
        theirs.low,
        theirs.high,
        theirs.n,
    ]
    (table,) = Results.from_metrics(run.metrics).own
    assert table.columns == ("exam", "shots", "verdict", "new", "old", "difference")


def test_one_exam_that_is_worse_is_enough(run_stage: Run) -> None:
    with pytest.raises(GateError) as raised:
        run_stage(gate("exam", "other"), {"exam": exam(0.9, 0.5), "other": exam(0.5, 0.7)})
    lines = str(raised.value).split("\n")
    assert lines[0] == (
        "'new' does not pass: it is worse than 'old' in 1 of 2 exams (require: not_worse)"
    )
    assert lines[1].startswith("  exam, 0-shot: 90.0% against 50.0%, +40.0 points (+")
    assert lines[1].endswith("100 items: better")
    assert lines[2].endswith("100 items: worse — does not pass")
    assert raised.value.exit_code == 8


def test_what_is_no_comparison(run_stage: Run) -> None:
    def change(**of_a_row: Any) -> list[dict[str, Any]]:
        rows = exam(0.8, 0.7)
        rows[105] |= of_a_row  # of `new`, item t5
        return rows

    for rows, message in (
        (exam(0.8, 0.7)[:150], "'exam', 0-shot: 'new' did not answer 50 items, such as t50, t51"),
        (exam(0.8, 0.7)[:100], "'new' did not take 'exam'; allowed: old"),
        (exam(0.8, 0.7)[100:], "'old' did not take 'exam'; did you mean|allowed: new, other"),
        (
            change(error="timeout", is_correct=None),
            "the engine of 'new' failed on 1 answer, .* --retry-failed",
        ),
        (change(error="timeout"), "the engine of 'new' failed on 1 answer, which says nothing"),
        (change(question="another?"), "what was asked is not the same in 1 item, such as t5"),
        (change(is_correct=None), "row t5-new-0-0 of 'exam' is neither right nor wrong"),
        (exam(1, 1, 1), "an interval needs two items"),
    ):
        with pytest.raises(DataError, match=message):
            run_stage(gate("exam"), {"exam": rows})


def test_the_best_round_may_have_come_to_be_the_last(run_stage: Run) -> None:
    def same(require: str) -> Any:
        # As they are once a `repeat` has ended.
        settled = gate("exam", require=require).model_copy(update={"model": "old"})
        return run_stage(settled, {"exam": exam(0.5, 0.5)})

    run = same("not_worse")
    assert run.rows == []
    assert run.warnings == ["'exam': 'old' is compared with itself, so nothing is: it is not worse"]
    with pytest.raises(GateError, match="'old' does not pass 'exam': .* not better than itself"):
        same("better")


def labelled(share: float, n: int = 100, **more: Any) -> list[dict[str, Any]]:
    """Rows of `label` or `classify`: the first are right."""
    return [
        {
            "id": f"t{i}",
            "reference_answer": "ab"[i % 2],
            "label": "ab"[i % 2] if i < share * n else None,
            **more,
        }
        for i in range(n)
    ]


def of_labels(**settings: Any) -> Gate:
    return Gate(stage="gate", labels="student", than_labels="teacher", **settings)


@pytest.fixture
def report(run_stage: Run) -> list[dict[str, Any]]:
    made = ClassificationReport(stage="classification_report", rows=["teacher", "student"])
    sure = {"choices": ["b", "a"], "probabilities": [0.5, 0.5]}  # a teacher may have none
    return run_stage(made, {"teacher": labelled(0.7), "student": labelled(0.8, **sure)}).rows


def test_labels_are_compared_by_the_stages_that_gave_them(
    run_stage: Run, report: list[dict[str, Any]]
) -> None:
    (row,) = run_stage(of_labels(exams=["labels"]), {"labels": report}).rows
    assert [row["id"], row["model"], row["than"]] == ["labels, 0-shot", "student", "teacher"]
    assert row["accuracy"] == pytest.approx(0.8)
    assert row["difference"] == pytest.approx(0.1)
    assert (row["verdict"], row["n_items"]) == ("better", 100)
    other_way = Gate(stage="gate", exams=["labels"], labels="teacher", than_labels="student")
    with pytest.raises(GateError, match="'teacher' does not pass: it is worse than 'student'"):
        run_stage(other_way, {"labels": report})
    report[3] |= {"reference_answer": "c"}
    with pytest.raises(DataError, match="'labels', 0-shot: what was asked is not the same in 1"):
        run_stage(of_labels(exams=["labels"]), {"labels": report})
    with pytest.raises(DataError, match="'student' did not answer 100 items|did not take"):
        run_stage(of_labels(exams=["labels"]), {"labels": report[:100]})


def test_answers_and_labels_in_one_gate(run_stage: Run, report: list[dict[str, Any]]) -> None:
    both = of_labels(exams=["exam", "labels"], model="new", than="old")
    given = {"exam": exam(0.8, 0.7), "labels": report}
    assert [row["model"] for row in run_stage(both, given).rows] == ["new", "student"]
    with pytest.raises(GateError) as raised:
        run_stage(both, given | {"exam": exam(0.5, 0.7)})
    first, _, labels = str(raised.value).split("\n")
    assert first.startswith("'new' does not pass: it is worse than 'old' in 1 of 2 exams")
    assert labels.startswith("  labels, 0-shot ('student' and 'teacher'): 80.0% against 70.0%")
    with pytest.raises(DataError, match="of 'labels' are of stages that gave labels, .* than_lab"):
        run_stage(gate("labels"), {"labels": report})
    with pytest.raises(DataError, match="of 'exam' are answers of models; name two: model and"):
        run_stage(of_labels(exams=["exam"]), {"exam": exam(0.8, 0.7)})


def harness(right: dict[str, float], task: str = "sums", name: str = "none") -> list[Any]:
    return [
        sample_row(
            model,
            task,
            5,
            {
                "doc_id": i,
                "filter": name,
                "arguments": [[f"as {model} is asked: {i}"]],
                "target": "4",
                "metrics": ["exact_match"],
                "exact_match": float(i < share * 50),
                "resps": [["4"]],
                "filtered_resps": ["4"],
            },
            None,
        )
        for model, share in right.items()
        for i in range(50)
    ]


def test_each_task_and_filter_of_the_harness_is_an_exam(run_stage: Run) -> None:
    rows = [
        *harness({"old": 0.5, "new": 0.9}),
        *harness({"old": 0.5, "new": 0.5}, name="flexible"),
        *harness({"old": 0.5, "new": 0.52}, task="words"),
    ]
    run = run_stage(gate("harness"), {"harness": rows})
    assert [(row["id"], row["verdict"], row["n_items"]) for row in run.rows] == [
        ("harness/sums, 5-shot", "better", 50),
        ("harness/sums (flexible), 5-shot", "undecided", 50),
        ("harness/words, 5-shot", "undecided", 50),
    ]
    rows[70]["is_correct"] = None
    with pytest.raises(
        DataError, match="sums-20-new of 'harness' is neither .* exact_match or acc"
    ):
        run_stage(gate("harness"), {"harness": rows})
    with pytest.raises(DataError, match="'harness/words', 5-shot: 'new' did not answer 10 items"):
        run_stage(gate("harness"), {"harness": harness({"old": 1, "new": 1}, "words")[:90]})
    unknown = [row | {"shots": None} for row in harness({"old": 0.5, "new": 0.9})]
    (row,) = run_stage(gate("harness"), {"harness": unknown}).rows
    assert (row["id"], row["shots"]) == ("harness/sums", None)


LABELS = """\
name: p
models: {one: {model_name_or_path: o, engine: {kind: scripted, function: "os.path:join"}}}
stages:
  texts: {stage: load_dataset, path: texts.jsonl, split: train}
  teacher: {stage: label, rows: texts, model: one, labels: labels.yaml}
  other: {stage: label, rows: texts, model: one, labels: labels.yaml, max_words: 5}
  labels: {stage: classification_report, rows: [teacher, other]}
  ship: {stage: gate, exams: [labels], GATE}
"""


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("labels: texts, than_labels: teacher", "ship.labels: 'texts' took none of the exams; all"),
        ("labels: othr, than_labels: teacher", "ship.labels: no stage 'othr'; did you mean"),
        ("labels: other, than_labels: one", "ship.than_labels: 'one' is a model; rows are needed"),
    ],
)
def test_who_took_no_exam_is_said_before_the_run(
    settings: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "texts.jsonl").write_text('{"id": "a", "text": "b", "reference_answer": "x"}\n')
    (tmp_path / "labels.yaml").write_text("[x, y]")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(LABELS.replace("GATE", settings))
    with pytest.raises(ConfigError, match=says):
        load_pipeline("p.yaml")
    (tmp_path / "p.yaml").write_text(
        LABELS.replace("GATE", "labels: other, than_labels: teacher, require: better")
    )
    assert load_pipeline("p.yaml")


def test_settings_that_do_not_fit() -> None:
    with pytest.raises(ValidationError, match="than: a model is not compared with itself"):
        Gate(stage="gate", exams=["exam"], model="m", than="m")
    for settings, says in (
        ({}, "name what is compared: model and than, or in a classification_report labels"),
        ({"model": "m"}, "model: compared with what. set than too"),
        ({"model": "m", "than": "n", "than_labels": "x"}, "than_labels: .* set labels too"),
        ({"labels": "x", "than_labels": "x"}, "than_labels: labels are not compared with them"),
    ):
        with pytest.raises(ValidationError, match=says):
            Gate(stage="gate", exams=["exam"], **settings)
    with pytest.raises(ValidationError, match="exams: each can be named once"):
        gate("exam", "exam")
    for tolerance in (-0.1, 1, float("nan")):
        with pytest.raises(ValidationError, match="tolerance"):
            gate("exam", tolerance=tolerance)


def test_the_exit_code(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "exam.jsonl").write_text("\n".join(map(json.dumps, exam(0.5, 0.7))))
    (tmp_path / "p.yaml").write_text(
        "name: p\n"
        "models:\n"
        '  new: {model_name_or_path: n, engine: {kind: scripted, function: "os.path:join"}}\n'
        '  old: {model_name_or_path: o, engine: {kind: scripted, function: "os.path:join"}}\n'
        "stages:\n"
        "  exam: {stage: load_dataset, path: exam.jsonl, split: exam}\n"
        "  ship: {stage: gate, exams: [exam], model: new, than: old}\n"
    )
    monkeypatch.chdir(tmp_path)
    said = cli("run", "p.yaml", "--workspace", "w")
    assert said.code == 8, said.err
    assert "exam, 0-shot: 50.0% against 70.0%, -20.0 points (-28.0 to -13.0), 100" in said.err
    said = cli("run", "p.yaml", "--workspace", "w", "--set", "stages.ship.tolerance=0.3")
    assert said.code == 0, said.err
    assert "undecided" in said.out
