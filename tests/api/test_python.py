"""`import llm_distill as ld`, without models: loading, planning, running, what is printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import llm_distill as ld

FILE = """\
name: small
stages:
  test: {stage: load_dataset, path: data/word_problems, split: test}
  few: {stage: select, rows: test, n: 5}
  again: {stage: select, rows: few, n: 3}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LLM_DISTILL_WORKSPACE", raising=False)
    (tmp_path / "small.yaml").write_text(FILE)
    return tmp_path / "small.yaml"


def test_what_there_is_is_what_is_public() -> None:
    assert dir(ld) == sorted(ld.__all__)


def test_the_import_is_light_and_every_name_is_there() -> None:
    code = (
        "import json, sys, llm_distill as ld; light = set(sys.modules);"
        "assert all(getattr(ld, name) for name in ld.__all__) and set(ld.__all__) <= set(dir(ld));"
        "ld.validate('pipelines/arte.yaml');"
        "ld.plan('pipelines/arte.yaml', until='test', workspace='nowhere');"
        "heavy = {'torch', 'transformers', 'datasets', 'pandas'};"
        "print(json.dumps([sorted(light & {*heavy, 'pydantic', 'rich'}),"
        "sorted(heavy & set(sys.modules))]))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(said.stdout) == [[], []]
    with pytest.raises(AttributeError, match="nothing"):
        _ = ld.nothing


@pytest.mark.parametrize(
    "overrides",
    [
        {"stages.few.n": 4, "seed": 3},
        {"stages": {"few": {"n": 4}}, "seed": 3},
        {"stages.few": {"n": 4}, "seed": 3},
    ],
)
def test_overrides_are_dotted_or_nested(file: Path, overrides: dict[str, object]) -> None:
    from llm_distill.pipeline.load import load_pipeline

    same = load_pipeline(str(file), assignments=["stages.few.n=4", "seed=3"])
    found = ld.load(file, overrides=overrides)
    assert (found.resolved, found.stages) == (same.resolved, same.stages)


def test_a_name_with_dots_below_a_key_stays_whole(file: Path) -> None:
    models = {"qwen2.5": {"model_name_or_path": Path("data/models/tiny-student")}}
    found = ld.load(file, overrides={"models": models})
    assert found.models["qwen2.5"].model_name_or_path == "data/models/tiny-student"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"stages.few.n": 0}, r"overrides: 'stages.few.n': stages.few.n: should be greater"),
        ({"stages": {"fwe": {"n": 4}}}, "overrides: 'stages': stages.fwe: .*did you mean 'few'"),
        ({"stages..n": 1}, "'stages..n': a place is expected"),
        ({"stages.few.n": {1}}, "'stages.few.n': a set is not text"),
        ({"seed": float}, "'seed': a type is not text"),
        ({"stages.test.split": "${NO_SUCH_VARIABLE}"}, "NO_SUCH_VARIABLE.* is not set"),
    ],
)
def test_a_wrong_override_is_named(file: Path, overrides: dict[str, object], message: str) -> None:
    with pytest.raises(ld.errors.ConfigError, match=message):
        ld.load(file, overrides=overrides)


def test_validate_lists_what_load_raises(file: Path) -> None:
    wrong = {"stages.few.n": 0, "stages.again.rows": "nobody", "seed": -1}
    assert ld.validate(file) == []
    found = ld.validate(file, overrides=wrong)
    assert {text.split(": ")[1] for text in found} == set(map(repr, wrong))
    assert len(ld.validate("nowhere.yaml")) == 1


def test_a_run_its_plan_and_what_it_gave(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = dict(os.environ)
    first = ld.run(file, until="few")
    assert (
        capsys.readouterr().out.count("\n") == 2 * len(first) == 4
    )  # a line as it begins, and one as it ends
    assert (list(first), first.state, "again" in first) == (["test", "few"], "done", False)
    plan = ld.plan(file)
    assert plan.to_run == ["again"]
    assert "reuse  few  (nothing has changed)" in repr(plan)
    assert list(plan.to_pandas()["action"]) == ["reuse", "reuse", "run"]
    assert ld.plan(file, force="few").to_run == ["few", "again"]

    run = ld.run(ld.load(file), from_="again", progress="none")
    assert capsys.readouterr() == ("", "")
    assert dict(os.environ) == before
    assert len(run["again"].dataset) == run["again"].rows == len(run["again"].to_pandas()) == 3
    assert run["few"].state == "reused"
    assert run["again"].dropped == {"not selected": 2}
    assert run["again"].path.is_relative_to(file.parent / "data" / "artifacts")
    assert run["again"].results == []
    assert list(run.to_pandas()["rows"]) == [200, 5, 3]
    assert run.report().read_text().startswith("<!doctype html>")
    assert ld.load_run("small").name == run.name == ld.load_run(run.name).name
    assert ld.load_run(first.name)["few"].path == run["few"].path
    with pytest.raises(ld.errors.ConfigError, match="no stage 'agian'; did you mean 'again'"):
        _ = run["agian"]


def test_a_failed_run_raises_and_is_kept(file: Path) -> None:
    (file.parent / "rows.jsonl").write_text('{"question": "a"}\n{"question": \n')
    overrides = {"stages.again": {"stage": "load_dataset", "path": "rows.jsonl"}}
    with pytest.raises(ld.errors.DataError, match="^stage 'again': ") as failure:
        ld.run(ld.load(file, overrides=overrides), progress="none")
    assert "goes on from there" in failure.value.__notes__[0]
    run = ld.load_run()
    assert (run.state, run["few"].rows, run["again"].state) == ("failed", 5, "failed")
    with pytest.raises(ld.errors.WorkspaceError, match="'again' gave nothing in this run"):
        _ = run["again"].dataset


def test_what_cannot_be_asked_for_is_said(file: Path) -> None:
    with pytest.raises(ld.errors.ConfigError, match="progress='bar'; did you mean 'bars'"):
        ld.run(file, progress="bar")  # type: ignore[arg-type]
    with pytest.raises(ld.errors.ConfigError, match="--until nothing: no such stage"):
        ld.run(file, until="nothing")
    with pytest.raises(ld.errors.WorkspaceError, match="no run in"):
        ld.load_run()
