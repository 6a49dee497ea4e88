"""Rounds of a `repeat`: run in order, drawn anew in each, and reused and resumed like any stage."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_distill.errors import ConfigError
from llm_distill.methods.seeds import derive_seed
from llm_distill.report.collect import collect
from llm_distill.runtime.record import RunRecord

MakeBench = Callable[[str], Any]

TOY = """\
name: toy
seed: 3
models:
  teacher: {model_name_or_path: org/teacher, engine: {kind: scripted, function: "a:b"}}
stages:
  numbers: {stage: toy_rows, n: 12}
  rounds:
    repeat:
      times: 2
      start: {trained: teacher}
      stages:
        extra: {stage: toy_rows, n: 2}
        drawn: {stage: select, rows: numbers, n: 4, order: random}
        answers: {stage: toy_map, rows: drawn, also: [extra]}
        trained: {stage: toy_train, model: trained@previous, rows: answers}
  first: {stage: toy_map, rows: answers@1}
"""
INSIDE = "stages.rounds.repeat.stages"


def _round(number: int) -> list[str]:
    return [f"{name}@{number}" for name in ("extra", "drawn", "answers", "trained")]


ALL = ["numbers", *_round(1), *_round(2), "first"]


def test_rounds_run_in_order_and_a_rerun_executes_nothing(bench: MakeBench) -> None:
    toy = bench(TOY)
    assert list(toy.plan()) == ALL
    first = toy.run()
    assert toy.display.ran == ALL
    again = toy.run()
    assert toy.display.ran == []
    assert [s.artifact for s in first.stages.values()] == [
        s.artifact for s in again.stages.values()
    ]
    for number, start in ((1, "teacher"), (2, "trained@1")):
        manifest = json.loads((toy.artifact(f"trained@{number}") / "manifest.json").read_text())
        assert manifest["name"] == f"trained@{number}"
        assert list(manifest["models"]) == [start]
    assert (first.directory / "logs" / "drawn@2.log").is_file()


def test_each_round_draws_anew(bench: MakeBench) -> None:
    toy = bench(TOY)
    record = toy.run()
    drawn = [{row["id"] for row in toy.rows(record, f"drawn@{number}")} for number in (1, 2)]
    assert len(drawn[0]) == len(drawn[1]) == 4
    assert drawn[0] != drawn[1]
    for number in (1, 2):
        manifest = json.loads((toy.artifact(f"drawn@{number}") / "manifest.json").read_text())
        seed = derive_seed(3, "round", number)
        assert manifest["seed"] == manifest["identity"]["seed"] == seed


def test_one_more_round_runs_that_round_only(bench: MakeBench) -> None:
    toy = bench(TOY)
    toy.run()
    toy.run("stages.rounds.repeat.times=3")
    assert toy.display.ran == _round(3)
    toy.run("stages.rounds.repeat.times=1")
    assert toy.display.ran == []


def test_a_changed_setting_of_the_block_redoes_its_rounds(bench: MakeBench) -> None:
    toy = bench(TOY)
    toy.run()
    change = f"{INSIDE}.answers.drop_odd=true"
    assert toy.plan(change)["answers@2"] == ("run", "setting drop_odd: false → true")
    toy.run(change)
    changed = ["answers@1", "trained@1", "answers@2", "trained@2", "first"]
    assert toy.display.ran == changed


def test_force_from_and_until_name_a_round(bench: MakeBench) -> None:
    toy = bench(TOY)
    toy.run(until="answers@2")
    assert toy.display.ran == ALL[:8]
    toy.run(until="answers@last")
    assert toy.display.ran == []
    toy.run(start="trained@2")
    assert toy.display.ran == ["trained@2", "first"]
    toy.run(force=("drawn@2",))
    assert toy.display.ran == ["drawn@2", "answers@2", "trained@2"]
    with pytest.raises(ConfigError, match="--from trained: no such stage; did you mean 'trained@"):
        toy.run(start="trained")


def test_a_kill_in_the_second_round_resumes_there(bench: MakeBench, tmp_path: Path) -> None:
    toy = bench(TOY)
    toy.run(until="trained@1")
    trace = tmp_path / "trace"
    process = toy.start(
        "--set", f"{INSIDE}.extra.pause=30", "--set", f"{INSIDE}.extra.trace={trace}"
    )
    end = time.monotonic() + 60
    while not trace.exists() or not trace.read_text():
        assert time.monotonic() < end, "the second round did not begin"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    toy.run()
    assert toy.display.ran == [*_round(2), "first"]


def test_the_commands_name_rounds(bench: MakeBench, cli: Any) -> None:
    toy = bench(TOY)
    where = ("--workspace", toy.workspace.root)
    told = cli("run", toy.file, "--until", "trained@2", "--log-format", "json", *where)
    assert told.code == 0, told.err
    events = [json.loads(line) for line in told.out.splitlines()]
    finished = [e["stage"] for e in events if e["event"] == "stage_finished"]
    assert finished == ALL[:-1]
    planned = cli("plan", toy.file, *where).out
    assert "trained@2" in planned
    assert "1 to run, 9 to reuse" in planned
    assert "drawn@2" in cli("status", *where).out
    page = Path(events[-1]["report"]).read_text()
    assert "drawn@1" in page
    assert "trained@2" in page
    assert "10 stages" in cli("validate", toy.file).out


def test_the_report_knows_what_rounds_that_have_not_run_read(bench: MakeBench) -> None:
    toy = bench(TOY.replace("n: 2}", "n: 2, error: crash}"))
    with pytest.raises(RuntimeError):
        toy.run()
    directory = next(toy.workspace.runs.glob("toy/*"))
    values = json.loads((directory / "run.json").read_text())
    assert values["stages"]["trained@2"]["state"] == "waiting"
    from llm_distill.runtime.record import read_run

    record: RunRecord = read_run(toy.workspace, None)
    view = collect(record, toy.workspace).stage("trained@2")
    assert view is not None
    assert (view.kind, view.inputs) == ("toy_train", ("trained@1", "answers@2"))


STUDENT = """\
name: rounds
seed: 3
models:
  student: {model_name_or_path: data/models/tiny-student, prompt_format: text}
stages:
  seeds: {stage: load_dataset, path: data/word_problems, split: seeds}
  asked: {stage: select, rows: seeds, n: 6}
  rounds:
    repeat:
      times: 2
      start: {trained: student}
      stages:
        texts:
          stage: generate
          rows: asked
          model: trained@previous
          template: arte/exam.jinja
          variables: &task {task_description: Solve the word problem., examples: []}
          sampling: {temperature: 1.0, max_tokens: 72}
        parsed: {stage: parse, rows: texts, tags: {answer: ans}, keep_text_as: rationale}
        trained:
          stage: train_sft
          model: trained@previous
          rows: parsed
          prompt_template: arte/exam.jinja
          variables: *task
          completion_column: rationale
          max_steps: 2
          peft: {r: 2, lora_alpha: 4}
  whole: {stage: merge_adapter, model: trained@1}
  exam:
    stage: evaluate
    rows: asked
    models: [student, trained@1, trained@last, whole]
    template: arte/exam.jinja
    variables: *task
    sampling: {temperature: 0, max_tokens: 8}
"""


@pytest.mark.slow
@pytest.mark.parametrize("full", [False, pytest.param(True, marks=pytest.mark.exhaustive)])
def test_the_student_of_a_round_is_asked_and_trained_in_the_next(
    bench: MakeBench, full: bool
) -> None:
    """Adapters on adapters, and whole models, from folders with an '@' in their names."""
    text = STUDENT.replace("          peft: {r: 2, lora_alpha: 4}\n", "") if full else STUDENT
    text = text.replace("  whole: {stage: merge_adapter, model: trained@1}\n", "") if full else text
    toy = bench(text.replace(", whole]", "]") if full else text)
    record = toy.run()
    texts = [[row["completion"] for row in toy.rows(record, f"texts@{k}")] for k in (1, 2)]
    assert len(texts[0]) == 6
    assert texts[0] != texts[1]
    results = json.loads((toy.artifact("exam") / "manifest.json").read_text())["metrics"]["results"]
    models = ["student", "trained@1", "trained@2", *([] if full else ["whole"])]
    assert [row["model"] for row in results] == models
    toy.run()
    assert toy.display.ran == []
