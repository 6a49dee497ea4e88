"""Reuse, and what happens when something is changed, damaged, killed or run twice at once."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_distill.errors import ConfigError, DataError, WorkspaceError
from llm_distill.manifest import MANIFEST, Manifest
from llm_distill.pipeline.load import load_pipeline
from llm_distill.runtime.record import read_run

Bench = Any
MakeBench = Callable[[str], Bench]

TOY = """\
name: toy
seed: 3
models:
  teacher: {model_name_or_path: org/teacher, engine: {kind: scripted, function: "a:b"}}
stages:
  numbers: {stage: toy_rows, n: 4}
  others: {stage: toy_rows, n: 2}
  answers: {stage: toy_map, rows: numbers, drop_odd: true}
  trained: {stage: toy_train, model: teacher, rows: answers}
"""
ALL = ["numbers", "others", "answers", "trained"]


def test_a_rerun_executes_nothing(bench: MakeBench) -> None:
    toy = bench(TOY)
    first = toy.run()
    assert toy.display.ran == ALL
    assert [row["answer"] for row in toy.rows(first, "answers")] == ["QUESTION 0", "QUESTION 2"]
    again = toy.run()
    assert toy.display.ran == []
    assert {stage.state for stage in again.stages.values()} == {"reused"}
    assert first.stages["answers"].artifact == again.stages["answers"].artifact
    assert (toy.artifact("trained") / "model.safetensors").read_text() == "2"


def test_a_changed_setting_reruns_the_stage_and_its_dependants_and_back(bench: MakeBench) -> None:
    toy = bench(TOY)
    toy.run()
    toy.run("stages.numbers.n=6")
    assert toy.display.ran == ["numbers", "answers", "trained"]
    toy.run()
    assert toy.display.ran == []


def test_what_lies_outside_the_workspace_is_done_anew(
    bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = bench(TOY)
    toy.run()
    kind = type(load_pipeline(str(toy.file)).stages["answers"])
    monkeypatch.setattr(kind, "is_repeated", True)
    assert toy.plan()["answers"] == ("run", "it runs every time")
    toy.run()
    assert toy.display.ran == ["answers"]  # trained reads the same rows
    toy.run(start="trained")
    assert toy.display.ran == []


def test_dependants_of_an_equal_result_are_reused(bench: MakeBench) -> None:
    """Another seed gives this stage another fingerprint and the same rows."""
    toy = bench(TOY.replace("n: 4}", "n: 4, mode: odd}"))
    toy.run()
    toy.run("seed=4")
    assert toy.display.ran == ["numbers"]


def test_an_edited_function_of_a_scripted_model_reruns_what_it_answers(
    bench: MakeBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "my_answers.py"
    module.write_text("def reply(request): return 'one'\n")
    toy = bench(TOY.replace("a:b", "my_answers:reply"))
    toy.run()
    module.write_text("def reply(request): return 'another'\n")
    toy.run()
    assert toy.display.ran == ["trained"]


def test_settings_that_cannot_change_the_result_do_not_rerun(bench: MakeBench) -> None:
    toy = bench(TOY)
    toy.run()
    toy.run("stages.numbers.pause=0.001")
    assert toy.display.ran == []


def test_another_pipeline_reuses_the_same_work(bench: MakeBench) -> None:
    toy = bench(TOY)
    toy.run()
    toy.run("name=other")
    assert toy.display.ran == []


def test_force_from_until(bench: MakeBench) -> None:
    toy = bench(TOY)
    toy.run(until="answers")
    assert toy.display.ran == ["numbers", "others", "answers"]
    toy.run(force=("numbers",))
    assert toy.display.ran == ["numbers", "answers", "trained"]
    assert len(list(toy.workspace.artifacts.glob("numbers-*"))) == 1
    with pytest.raises(WorkspaceError, match=r"stage 'numbers': it comes before --from"):
        toy.run("stages.numbers.n=9", start="answers")
    assert toy.display.ran == []
    toy.run(start="answers")
    assert toy.display.ran == []
    with pytest.raises(ConfigError, match="--from anwsers: no such stage; did you mean 'answers'"):
        toy.plan(start="anwsers")
    with pytest.raises(ConfigError, match="--from trained comes after --until answers"):
        toy.run(start="trained", until="answers")
    with pytest.raises(ConfigError, match="--force anwsers: no such stage; did you mean 'answers'"):
        toy.run(force=("anwsers",))
    with pytest.raises(ConfigError, match="--force trained comes after --until answers"):
        toy.run(force=("trained",), until="answers")
    with pytest.raises(ConfigError, match="--force numbers comes before --from answers"):
        toy.plan(force=("numbers",), start="answers")


def test_plan_says_what_and_why(bench: MakeBench, tmp_path: Path) -> None:
    template = tmp_path / "map.jinja"
    template.write_text("{{ question }}")
    toy = bench(TOY.replace("drop_odd: true", f"template: {template}"))
    assert toy.plan()["numbers"] == ("run", "it has never run in this workspace")
    assert toy.plan()["answers"] == ("run", "upstream numbers will run")
    toy.run()
    assert set(toy.plan().values()) == {("reuse", "nothing has changed")}
    assert toy.plan("stages.numbers.n=9")["numbers"] == ("run", "setting n: 4 → 9")
    assert toy.plan("stages.numbers.n=9")["others"] == ("reuse", "nothing has changed")
    assert toy.plan(force=("answers",))["answers"] == ("run", "forced")
    template.write_text("{{ question }}!")
    assert toy.plan()["answers"] == ("run", f"template {template} changed")
    assert toy.plan()["trained"] == ("run", "upstream answers will run")
    shutil.rmtree(toy.artifact("others"))
    assert toy.plan()["others"] == ("run", "it has never run in this workspace")


def _remove_arrow(path: Path) -> None:
    next(path.glob("*.arrow")).unlink()


def _truncate_arrow(path: Path) -> None:
    arrow = next(path.glob("*.arrow"))
    arrow.write_bytes(arrow.read_bytes()[:-10])


def _flip_a_byte(path: Path) -> None:
    arrow = next(path.glob("*.arrow"))
    content = bytearray(arrow.read_bytes())
    content[len(content) // 2] ^= 1
    arrow.write_bytes(content)


def _edit_manifest(path: Path) -> None:
    manifest = json.loads((path / MANIFEST).read_text())
    manifest["rows_out"] = 1000
    (path / MANIFEST).write_text(json.dumps(manifest))


def _break_manifest(path: Path) -> None:
    (path / MANIFEST).write_text("{")


def _remove_manifest(path: Path) -> None:
    (path / MANIFEST).unlink()


@pytest.mark.parametrize(
    "damage",
    [
        _remove_arrow,
        _truncate_arrow,
        _flip_a_byte,
        _edit_manifest,
        _break_manifest,
        _remove_manifest,
    ],
)
def test_damage_is_noticed_said_set_aside_and_rebuilt(
    bench: MakeBench, damage: Callable[[Path], None]
) -> None:
    toy = bench(TOY)
    toy.run()
    damage(toy.artifact("numbers"))
    assert "is damaged" in toy.plan()["numbers"][1]
    record = toy.run()
    assert toy.display.ran == ["numbers"]
    assert "numbers: its artifact is damaged" in toy.display.said[0]
    assert len(list((toy.workspace.artifacts / ".damaged").iterdir())) == 1
    assert len(toy.rows(record, "numbers")) == 4


@pytest.mark.parametrize("name", ["data-00001-of-00002.arrow", "model.safetensors", "x.json"])
def test_a_file_that_was_added_is_not_taken_for_a_part(bench: MakeBench, name: str) -> None:
    """And is not damage either: to rebuild could cost days."""
    toy = bench(TOY)
    toy.run()
    added = toy.artifact("numbers") / name
    added.write_bytes(next(toy.artifact("numbers").glob("*.arrow")).read_bytes())
    with pytest.raises(WorkspaceError, match=f"{name} was put into an artifact"):
        toy.run()
    added.rename(added.with_name(".DS_Store"))
    toy.run()
    assert toy.display.ran == []


def test_the_manifest_says_where_the_rows_come_from(bench: MakeBench) -> None:
    toy = bench(TOY)
    toy.run()
    manifest = json.loads((toy.artifact("answers") / MANIFEST).read_text())
    assert manifest["dropped"] == {"odd": 2}
    assert (manifest["rows_in"], manifest["rows_out"]) == (4, 2)
    assert manifest["inputs"]["numbers"]["artifact"] == toy.artifact("numbers").name
    assert manifest["features"]["answer"]["dtype"] == "string"
    assert {"packages", "device", "seconds", "tokens_in", "git_commit"} <= set(manifest)
    assert str(toy.workspace.root) not in json.dumps(manifest)


def test_a_run_states_every_field_of_the_manifest(
    bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A misspelt one would be ignored, and the field would have its default."""
    toy = bench(TOY)
    made: list[Manifest] = []
    monkeypatch.setattr(
        toy.display, "ends", lambda _, artifact, *__: made.append(artifact.manifest)
    )
    toy.run()
    stated = set(Manifest.model_fields) - {"schema_version"}
    assert [manifest.model_fields_set for manifest in made] == [stated] * len(made)
    assert made


def test_the_run_keeps_logs_and_resolved_settings(bench: MakeBench) -> None:
    toy = bench(TOY)
    record = toy.run("stages.numbers.n=5")
    assert "n: 5" in (record.directory / "pipeline.yaml").read_text()
    assert sorted(p.stem for p in (record.directory / "logs").iterdir()) == sorted(ALL)
    assert read_run(toy.workspace, "toy").stages["answers"].dropped == {"odd": 2}
    with pytest.raises(WorkspaceError, match="no run 'ty'.*did you mean 'toy'"):
        read_run(toy.workspace, "ty")
    with pytest.raises(WorkspaceError, match=f"no run 'toy/1' in .*; there are {record.name}$"):
        read_run(toy.workspace, "toy/1")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"stages": []}', '{"stages": {"a": 1}}'])
def test_a_damaged_record_does_not_hide_the_runs_before_it(bench: MakeBench, content: str) -> None:
    toy = bench(TOY)
    record = toy.run(until="numbers")
    damaged = record.directory.with_name("9999")
    shutil.copytree(record.directory, damaged)
    (damaged / "run.json").write_text(content)
    said: list[str] = []
    assert read_run(toy.workspace, "toy", on_damaged=said.append).name == record.name
    assert f"remove the folder {damaged}" in said[0]
    with pytest.raises(WorkspaceError, match="9999/run.json is damaged .* name another run"):
        read_run(toy.workspace, "toy/9999")


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        ("disk_full", WorkspaceError, "is full .* GiB free"),
        ("interrupt", KeyboardInterrupt, None),
        ("crash", RuntimeError, "a bug"),
    ],
)
def test_a_failure_leaves_nothing_that_is_taken_for_complete(
    bench: MakeBench, error: str, expected: type[BaseException], message: str | None
) -> None:
    toy = bench(TOY)
    with pytest.raises(expected, match=message):
        toy.run(f"stages.others.error={error}")
    record = read_run(toy.workspace, None)
    assert record.stages["numbers"].state == "done"
    assert record.stages["others"].state == ("interrupted" if error == "interrupt" else "failed")
    assert record.stages["answers"].state == "waiting"
    assert not list(toy.workspace.artifacts.glob("others-*"))
    assert not list((toy.workspace.artifacts / ".work").iterdir())
    toy.run()
    assert toy.display.ran == ["others", "answers", "trained"]


def test_an_input_without_rows_is_an_error_that_says_why(bench: MakeBench) -> None:
    toy = bench(TOY)
    with pytest.raises(DataError, match="stage 'answers': its input 'numbers' has no rows"):
        toy.run("stages.numbers.n=0")


def test_an_input_without_rows_is_passed_on_where_a_stage_takes_it(bench: MakeBench) -> None:
    """And where the next one does not, it is said which stage gave none first, and why."""
    toy = bench(
        TOY.replace("drop_odd: true}", "drop_odd: true, may_be_without_rows: true}")
        .replace("n: 4}", "n: 0}")
        .replace("rows: answers}", "rows: more}")
        .replace("  trained:", "  more: {stage: toy_map, rows: answers}\n  trained:")
    )
    with pytest.raises(
        DataError,
        match="stage 'more': its input 'answers' has no rows; 'numbers' gave none; dropped there: "
        "none. To see its rows: llm-distill preview FILE --stage numbers",
    ):
        toy.run()
    assert toy.display.ran == ["numbers", "others", "answers", "more"]
    assert list(toy.workspace.artifacts.glob("answers-*"))


def test_a_column_that_only_the_data_shows_to_be_missing(bench: MakeBench) -> None:
    toy = bench(
        TOY.replace("n: 4}", "n: 4, mode: odd}").replace("drop_odd: true", "column: qestion")
    )
    with pytest.raises(
        DataError, match="'numbers' has no column 'qestion'; did you mean 'question'"
    ):
        toy.run()


def test_an_unwritable_workspace(bench: MakeBench, tmp_path: Path) -> None:
    toy = bench(TOY)
    (tmp_path / "workspace").write_text("a file where a folder should be")
    with pytest.raises(WorkspaceError, match="cannot write to workspace .*--workspace DIR"):
        toy.run()


def test_sigkill_leaves_nothing_and_the_next_run_goes_on(
    bench: MakeBench, tmp_path: Path, cli: Any
) -> None:
    toy = bench(TOY)
    trace = tmp_path / "trace"
    process = toy.start("--set", "stages.others.pause=30", "--set", f"stages.others.trace={trace}")
    _wait_for(trace)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    status = cli("status", "--workspace", toy.workspace.root).out
    assert (status.count("interrupted"), status.count("running")) == (2, 0)  # the run, the stage
    assert not list(toy.workspace.artifacts.glob("others-*"))
    record = toy.run()
    assert toy.display.ran == ["others", "answers", "trained"]
    assert len(toy.rows(record, "others")) == 2
    assert not list((toy.workspace.artifacts / ".work").iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_or_a_job_schedulers_signal_says_what_is_kept(
    bench: MakeBench, tmp_path: Path, number: signal.Signals
) -> None:
    toy = bench(TOY)
    trace = tmp_path / "trace"
    process = toy.start("--set", "stages.others.pause=30", "--set", f"stages.others.trace={trace}")
    _wait_for(trace)
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "stopped: finished stages are kept" in output
    assert "Traceback" not in output
    assert read_run(toy.workspace, None).state == "interrupted"


def test_two_runs_at_once_execute_each_stage_once(bench: MakeBench, tmp_path: Path) -> None:
    toy = bench(TOY)
    trace = tmp_path / "trace"
    settings = ["--set", "stages.numbers.pause=0.5", "--set", f"stages.numbers.trace={trace}"]
    first = toy.start(*settings)
    _wait_for(trace)
    second = toy.start(*settings)
    outputs = [process.communicate(timeout=60)[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    assert trace.read_text().count("toy_rows") == 1
    assert re.search(r"another run \(process \d+ on .*\) is working on numbers-", outputs[1])


def _wait_for(path: Path, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not path.exists() or not path.read_text():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.02)
