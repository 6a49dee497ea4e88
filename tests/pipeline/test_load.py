"""The pipeline file: merging, and every mistake with its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llm_distill.errors import ConfigError
from llm_distill.pipeline.load import load_pipeline
from llm_distill.pipeline.schema import PipelineConfig

GOOD = """\
name: toy
seed: 3
models:
  teacher: {model_name_or_path: org/teacher}
stages:
  numbers:
    stage: toy_rows
    n: 4
  answers:
    stage: toy_map
    rows: numbers
  trained:
    stage: toy_train
    model: teacher
    rows: answers
  again:
    stage: toy_train
    model: trained
    rows: answers
profiles:
  big:
    seed: 9
    stages:
      numbers: {n: 100}
"""

Load = Callable[..., PipelineConfig]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def write_and_load(text: str, **options: object) -> PipelineConfig:
        path = tmp_path / "toy.yaml"
        path.write_text(text)
        return load_pipeline(str(path), **options)  # type: ignore[arg-type]

    return write_and_load


def failure(load: Load, text: str, **options: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load(text, **options)
    return str(caught.value)


def test_good_file(load: Load) -> None:
    pipeline = load(GOOD)
    assert list(pipeline.stages) == ["numbers", "answers", "trained", "again"]
    assert pipeline.seed == 3
    assert pipeline.stages["numbers"].n == 4  # type: ignore[attr-defined]


def test_profile_is_merged_deep_and_set_comes_last(load: Load) -> None:
    pipeline = load(GOOD, profile="big")
    assert pipeline.seed == 9
    assert pipeline.stages["numbers"].n == 100  # type: ignore[attr-defined]
    assert pipeline.stages["numbers"].stage == "toy_rows"
    both = load(GOOD, profile="big", assignments=["stages.numbers.n=7", "seed=1"])
    assert (both.seed, both.stages["numbers"].n) == (1, 7)  # type: ignore[attr-defined]


def test_extends_merges_over_the_base(load: Load, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(GOOD)
    text = "extends: base.yaml\nname: more\nstages:\n  extra: {stage: toy_map, rows: answers}\n"
    pipeline = load(text, profile="big")
    assert pipeline.name == "more"
    assert list(pipeline.stages)[-1] == "extra"
    assert pipeline.stages["numbers"].n == 100  # type: ignore[attr-defined]


def test_extends_in_a_circle(load: Load, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("extends: toy.yaml\nname: x\n")
    assert "leads back" in failure(load, "extends: base.yaml\nname: y\n")


def test_anchors_and_merge_keys(load: Load) -> None:
    text = GOOD.replace("  answers:\n", "  more: {<<: *toy, n: 5}\n  answers:\n").replace(
        "  numbers:\n", "  numbers: &toy\n", 1
    )
    pipeline = load(text)
    assert pipeline.stages["more"].n == 5  # type: ignore[attr-defined]
    assert pipeline.stages["numbers"].n == 4  # type: ignore[attr-defined]


def test_another_kind_replaces_the_settings_of_the_old(load: Load) -> None:
    text = GOOD.replace(
        "{model_name_or_path: org/teacher}",
        "{model_name_or_path: org/teacher, engine: {kind: transformers, batch_size: 4}}",
    ).replace(
        "    seed: 9",
        "    models: {teacher: {engine: {kind: scripted, function: 'a:b'}}}",
    )
    assert load(text, profile="big").models["teacher"].engine.kind == "scripted"


def test_variables_come_from_the_environment(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    text = GOOD.replace("org/teacher", "'${TEACHER}'")
    assert "toy.yaml:4: models.teacher.model_name_or_path: ${TEACHER} is not set" in failure(
        load, text
    )
    monkeypatch.setenv("TEACHER", "org/other")
    assert load(text).models["teacher"].model_name_or_path == "org/other"


def test_secrets_are_refused_and_not_printed(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret")
    message = failure(load, GOOD.replace("org/teacher", "'${HF_TOKEN}'"))
    assert "looks like a secret" in message
    assert "hf_very_secret" not in message


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("stage: toy_map", "stage: toy_mapp", "toy.yaml:10: stages.answers.stage: no stage 'toy_mapp'; did you mean 'toy_map'?"),
        ("    n: 4", "    m: 4", "toy.yaml:8: stages.numbers.m: unknown setting 'm'; allowed: error, mode, n, pause"),
        ("    n: 4", "    n: many", "toy.yaml:8: stages.numbers.n: should be a valid integer"),
        ("    n: 4", "    n: -1", "greater than or equal to 0, got -1"),
        ("    n: 4", "    mode: even", "stages.numbers.mode: got 'even'; allowed: 'plain' or 'odd'"),
        ("    rows: numbers", "    rows: nmbers", "toy.yaml:11: stages.answers.rows: no stage 'nmbers'; did you mean 'numbers'?"),
        ("    model: trained\n    rows: answers", "    model: trained\n    rows: trained", "'trained' gives model, where rows should be"),
        ("    rows: numbers", "    rows: teacher", "'teacher' is a model; rows are needed here"),
        ("    model: teacher", "    model: teacherr", "no model, nor a stage that trains one, named 'teacherr'; did you mean 'teacher'?"),
        ("    model: teacher", "    model: answers", "'answers' gives rows, where a model should be"),
        ("    rows: numbers", "    rows: answers", "stages.answers: stages refer to each other in a circle: answers → answers"),
        ("name: toy", "name: toy\nnaem: x", "toy.yaml:2: naem: unknown setting 'naem'; did you mean 'name'?"),
        ("name: toy\n", "", "name: is required and missing"),
        ("  teacher: {model_name_or_path: org/teacher}", "  numbers: {model_name_or_path: org/teacher}", "'numbers' is also a stage"),
        ("org/teacher", "data/models/none", "no directory data/models/none"),
    ],
)  # fmt: skip
def test_mistakes_are_said_with_their_place(load: Load, old: str, new: str, expected: str) -> None:
    assert old in GOOD
    assert expected in failure(load, GOOD.replace(old, new, 1))


def test_a_later_name_and_a_circle(load: Load) -> None:
    later = """\
name: toy
stages:
  answers: {stage: toy_map, rows: numbers}
  numbers: {stage: toy_rows}
"""
    assert "'numbers' comes later in the file; put it before 'answers'" in failure(load, later)
    circle = """\
name: toy
stages:
  a: {stage: toy_map, rows: b}
  b: {stage: toy_map, rows: a}
  c: {stage: toy_map, rows: a}
"""
    message = failure(load, circle)
    assert message.count("in a circle: a → b → a") == 1


def test_columns_are_checked_along_the_chain(load: Load) -> None:
    assert load(GOOD.replace("    rows: numbers", "    rows: numbers\n    column: id"))
    text = GOOD.replace("    rows: numbers", "    rows: numbers\n    column: qestion")
    assert (
        "toy.yaml:11: stages.answers.rows: 'numbers' gives no column 'qestion'; "
        "did you mean 'question'? allowed: id, question" in failure(load, text)
    )


def test_templates_are_checked(load: Load, tmp_path: Path) -> None:
    def with_template(name: str) -> str:
        return GOOD.replace("    rows: numbers", f"    rows: numbers\n    template: {name}", 1)

    assert "template 'nowhere.jinja' is not there" in failure(load, with_template("nowhere.jinja"))
    bad = tmp_path / "bad.jinja"
    bad.write_text("{{ question }} {{ qestion }}")
    assert "reads 'qestion', which is neither a column" in failure(load, with_template(str(bad)))
    bad.write_text("line\n{% for x in %}")
    assert "bad.jinja, line 2" in failure(load, with_template(str(bad)))


def test_all_problems_are_said_at_once(load: Load) -> None:
    text = (
        GOOD.replace("n: 4", "m: 4")
        .replace("rows: numbers", "rows: nothing")
        .replace("seed: 3", "seed: -3")
    )
    message = failure(load, text)
    assert message.startswith("3 problems in")
    assert all(part in message for part in ("unknown setting 'm'", "'nothing'", "got -3"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: [", "toy.yaml, line"),
        ("- a", "is a mapping with"),
        ("name: a\nname: b\n", "toy.yaml:2: 'name' stands twice"),
        ("name: a\n", "a pipeline needs stages"),
    ],
)
def test_files_that_are_no_pipeline(load: Load, text: str, expected: str) -> None:
    assert expected in failure(load, text)


def test_unknown_profile_file_and_set(load: Load) -> None:
    assert "no profile 'bgi'; did you mean 'big'?" in failure(load, GOOD, profile="bgi")
    with pytest.raises(ConfigError, match="no pipeline file pipelines/art.yaml; did you mean"):
        load_pipeline("pipelines/art.yaml")
    assert "no stage 'nmbers'; did you mean" in failure(
        load, GOOD, assignments=["stages.nmbers.n=1"]
    )
    assert "expected place=value" in failure(load, GOOD, assignments=["stages.numbers.n"])
    assert "--set stages.numbers.n=x: stages.numbers.n" in failure(
        load, GOOD, assignments=["stages.numbers.n=x"]
    )
