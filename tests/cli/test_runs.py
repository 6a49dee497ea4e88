"""The runs of a workspace as a table and as JSON; the folder of a stage."""

from __future__ import annotations

import json

import pytest

from llm_distill.cli.runs import _written_settings

pytestmark = pytest.mark.slow


def test_runs_say_what_was_gained_and_fold_at_80_columns(at_run, finished, monkeypatch):
    (listed,) = json.loads(at_run("runs", "made", "--json").out)
    gained = listed["gained"]
    assert (gained["model"], gained["baseline"], gained["shots"]) == ("tuned", "student", 0)
    files = [f for f in (finished / "artifacts").glob("*-*/**/*") if f.is_file()]
    manifests = [f.stat().st_size for f in files if f.name == "manifest.json"]
    assert listed["bytes"] == sum(f.stat().st_size for f in files) - sum(manifests)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    table = at_run("runs", "made").out
    assert max(map(len, table.splitlines())) <= 80
    assert listed["run"] in table
    assert f"seed {listed['seed']}" in table
    assert f"{100 * gained['difference']:+.1f}" in table


def test_a_pipeline_that_never_ran_and_a_workspace_without_runs(at_run, tmp_path):
    said = at_run("runs", "mode")
    assert (said.code, "did you mean 'made'" in said.err) == (5, True)
    empty = at_run("runs", "--workspace", tmp_path)
    assert (empty.code, "no run in" in empty.out) == (0, True)
    assert json.loads(at_run("runs", "--json", "--workspace", tmp_path).out) == []


def test_a_runs_settings_tell_it_apart():
    given = {"profile": "small", "seed": 3, "sweep": "s.json", "settings": ["seed=3", "a.b=2"]}
    assert _written_settings(given) == "sweep, seed 3, profile small, a.b=2"


def test_a_path_is_alone_on_its_line(at_run, finished):
    said = at_run("path", "made", "answers")
    assert said.out.count("\n") == 1
    assert said.out.startswith(str(finished.resolve() / "artifacts" / "answers-"))
    assert at_run("path", "made", "answer").code == 5
