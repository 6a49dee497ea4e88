"""The pipeline file: merging, and every mistake with its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from llm_distill.errors import ConfigError, nearest
from llm_distill.pipeline.load import load_pipeline
from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.pipeline.values import merge

Load = Callable[..., PipelineConfig]
Failure = Callable[..., str]


def test_good_file(load: Load, good: str) -> None:
    pipeline = load(good)
    assert list(pipeline.stages) == ["numbers", "answers", "trained", "again"]
    assert pipeline.seed == 3
    assert pipeline.stages["numbers"].n == 4  # type: ignore[attr-defined]


def test_profile_is_merged_deep_and_set_comes_last(load: Load, good: str) -> None:
    pipeline = load(good, profile="big")
    assert pipeline.seed == 9
    assert pipeline.stages["numbers"].n == 100  # type: ignore[attr-defined]
    assert pipeline.stages["numbers"].stage == "toy_rows"
    both = load(good, profile="big", assignments=["stages.numbers.n=7", "seed=1"])
    assert (both.seed, both.stages["numbers"].n) == (1, 7)  # type: ignore[attr-defined]


def test_extends_merges_over_the_base(load: Load, good: str, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(good)
    text = "extends: base.yaml\nname: more\nstages:\n  extra: {stage: toy_map, rows: answers}\n"
    pipeline = load(text, profile="big")
    assert pipeline.name == "more"
    assert list(pipeline.stages)[-1] == "extra"
    assert pipeline.stages["numbers"].n == 100  # type: ignore[attr-defined]


def test_extends_several_the_later_over_the_earlier(load: Load, good: str, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(good)
    (tmp_path / "more.yaml").write_text(
        "extends: base.yaml\nname: more\nstages: {extra: {stage: toy_map, rows: answers}}\n"
    )
    (tmp_path / "size.yaml").write_text(
        "extends: base.yaml\nname: size\nstages: {numbers: {n: 50}}\n"
    )
    pipeline = load("extends: [more.yaml, size.yaml]\nname: both\nseed: 1\n")
    assert (pipeline.name, pipeline.seed) == ("both", 1)
    assert list(pipeline.stages)[-1] == "extra"
    assert pipeline.stages["numbers"].n == 50  # type: ignore[attr-defined]


def test_extends_a_shipped_file_unless_one_of_its_name_is_beside(
    load: Load, failure: Failure, tmp_path: Path
) -> None:
    assert "tailored_student" in load("extends: arte.yaml\nname: own\n").stages
    (tmp_path / "arte.yaml").write_text("name: x\nstages: {numbers: {stage: toy_rows, n: 1}}\n")
    assert list(load("extends: arte.yaml\nname: own\n").stages) == ["numbers"]
    assert "did you mean 'alm.yaml'?" in failure("extends: almm.yaml\nname: y\n")


def test_extends_in_a_circle(failure: Failure, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("extends: toy.yaml\nname: x\n")
    assert "leads back" in failure("extends: base.yaml\nname: y\n")


def test_anchors_and_merge_keys(load: Load, good: str) -> None:
    text = good.replace("  answers:\n", "  more: {<<: *toy, n: 5}\n  answers:\n").replace(
        "  numbers:\n", "  numbers: &toy\n", 1
    )
    pipeline = load(text)
    assert pipeline.stages["more"].n == 5  # type: ignore[attr-defined]
    assert pipeline.stages["numbers"].n == 4  # type: ignore[attr-defined]


def test_another_kind_replaces_the_settings_of_the_old(load: Load, good: str) -> None:
    text = good.replace(
        "{model_name_or_path: org/teacher}",
        "{model_name_or_path: org/teacher, engine: {kind: transformers, batch_size: 4}}",
    ).replace(
        "    seed: 9",
        "    models: {teacher: {engine: {kind: scripted, function: 'a:b'}}}",
    )
    assert load(text, profile="big").models["teacher"].engine.kind == "scripted"


def test_what_decides_which_settings_there_are() -> None:
    engine = {"kind": "vllm", "seed": 1}
    assert merge({"engine": engine}, {"engine": {"kind": "openai"}}) == {
        "engine": {"kind": "openai"}
    }
    # A setting of a stage that is called kind is a setting like any other.
    verify = {"stage": "verify", "kind": "exact", "rows": "a"}
    assert merge({"x": verify}, {"x": {"kind": "math"}}) == {"x": {**verify, "kind": "math"}}
    checked = {"verify": {"kind": "exact", "drop_wrong": True}}
    assert merge(checked, {"verify": {"kind": "math"}})["verify"]["drop_wrong"]
    difficulty = {"by": "process_reward", "kind": "next_token", "model": "reward"}
    merged = merge({"d": difficulty}, {"d": {"kind": "token_classification"}})
    assert merged == {"d": {**difficulty, "kind": "token_classification"}}
    assert merge({"d": difficulty}, {"d": {"by": "gold"}}) == {"d": {"by": "gold"}}
    # Elsewhere `by` is a name, of a column or a stage.
    tags = {"answer": "ans", "by": "author"}
    assert merge({"tags": tags}, {"tags": {"by": "who"}}) == {"tags": {**tags, "by": "who"}}
    block = {"repeat": {"times": 2, "stages": {}}}
    assert merge({"x": block}, {"x": verify}) == {"x": verify}
    assert merge({"x": verify}, {"x": block}) == {"x": block}


def test_variables_come_from_the_environment(
    load: Load, failure: Failure, good: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = good.replace("org/teacher", "'${TEACHER}'")
    assert "toy.yaml:4: models.teacher.model_name_or_path: ${TEACHER} is not set" in failure(text)
    monkeypatch.setenv("TEACHER", "org/other")
    assert load(text).models["teacher"].model_name_or_path == "org/other"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("stage: toy_map", "stage: toy_mapp", "toy.yaml:10: stages.answers.stage: no stage 'toy_mapp'; did you mean 'toy_map'?"),
        ("    n: 4", "    m: 4", "toy.yaml:8: stages.numbers.m: unknown setting 'm'; allowed: error, mode, n, optional, pause"),
        ("    n: 4", "    n: many", "toy.yaml:8: stages.numbers.n: should be a valid integer"),
        ("    n: 4", "    n: -1", "greater than or equal to 0, got -1"),
        ("    n: 4", "    mode: even", "stages.numbers.mode: got 'even'; allowed: 'plain' or 'odd'"),
        ("    rows: numbers", "    rows: nmbers", "toy.yaml:11: stages.answers.rows: no stage 'nmbers'; did you mean 'numbers'?"),
        ("    model: trained\n    rows: answers", "    model: trained\n    rows: trained", "'trained' gives model, where rows should be; allowed: answers, numbers"),
        ("    rows: numbers", "    rows: teacher", "'teacher' is a model; rows are needed here; allowed: numbers"),
        ("    model: teacher", "    model: teacherr", "no model, nor a stage that trains one, named 'teacherr'; did you mean 'teacher'?"),
        ("    model: teacher", "    model: answers", "'answers' gives rows, where a model should be; allowed: teacher"),
        ("    rows: numbers", "    rows: answers", "stages.answers: stages refer to each other in a circle: answers → answers"),
        ("stage: toy_map", "stage: __init__", "toy.yaml:10: stages.answers.stage: no stage '__init__'; allowed:"),
        ("name: toy", "name: toy\n1: x", "toy.yaml:2: [1]: a setting's name is text, got 1"),
        ("{model_name_or_path: org/teacher}", "org/teacher", "toy.yaml:4: models.teacher: should be a mapping of settings, got 'org/teacher'"),
        ("org/teacher}", "org/teacher, engine: {kind: scripted, anwsers: x}}", "models.teacher.engine.anwsers: unknown setting 'anwsers'; did you mean 'answers'? allowed: answers, function, kind"),
        ("name: toy", "name: toy\nnaem: x", "toy.yaml:2: naem: unknown setting 'naem'; did you mean 'name'?"),
        ("name: toy\n", "", "name: is required and missing"),
        ("  teacher: {model_name_or_path: org/teacher}", "  numbers: {model_name_or_path: org/teacher}", "'numbers' is also a stage"),
        ("org/teacher", "data/models/none", "no directory data/models/none"),
    ],
)  # fmt: skip
def test_mistakes_are_said_with_their_place(
    failure: Failure, good: str, old: str, new: str, expected: str
) -> None:
    assert old in good
    assert expected in failure(good.replace(old, new, 1))


@pytest.mark.parametrize("value", ["maybe", "7", "[]"])
def test_true_or_false_or_a_word(failure: Failure, value: str) -> None:
    text = f"""\
name: toy
models:
  teacher: {{model_name_or_path: org/teacher}}
stages:
  rows: {{stage: toy_rows}}
  student: {{stage: train_distill, rows: rows, model: teacher, online: {value}, bf16: {value}}}
"""
    message = failure(text)
    got = repr(yaml.safe_load(value))
    assert f"stages.student.online: got {got}; allowed: true, false or 'adapter_off'" in message
    assert "stages.student.bf16: should be true or false" in message
    assert "boolean" not in message


def test_a_later_name_and_a_circle(failure: Failure) -> None:
    later = """\
name: toy
stages:
  answers: {stage: toy_map, rows: numbers}
  numbers: {stage: toy_rows}
"""
    assert "'numbers' comes later in the file; put it before 'answers'" in failure(later)
    circle = """\
name: toy
stages:
  a: {stage: toy_map, rows: b}
  b: {stage: toy_map, rows: a}
  c: {stage: toy_map, rows: a}
"""
    message = failure(circle)
    assert message.count("in a circle: a → b → a") == 1


def test_columns_are_checked_along_the_chain(load: Load, failure: Failure, good: str) -> None:
    assert load(good.replace("    rows: numbers", "    rows: numbers\n    column: id"))
    text = good.replace("    rows: numbers", "    rows: numbers\n    column: qestion")
    assert (
        "toy.yaml:11: stages.answers.rows: 'numbers' gives no column 'qestion'; "
        "did you mean 'question'? allowed: id, question" in failure(text)
    )


def test_a_new_question_has_no_reference_and_it_is_said(failure: Failure) -> None:
    text = """name: toy
models:
  teacher: {model_name_or_path: org/teacher}
stages:
  seeds: {stage: load_dataset, path: data/word_problems, split: seeds}
  drafts:
    stage: generate
    rows: seeds
    model: teacher
    template: arte/exam.jinja
    parse: {tags: {question: input, answer: target}}
  checked: {stage: verify, rows: drafts}
"""
    assert (
        "toy.yaml:12: stages.checked.rows: 'drafts' gives no column 'reference_answer'; its "
        "questions are new, and 'seed_reference_answer' is about those" in failure(text)
    )


def test_a_column_that_a_setting_asks_for_says_what_gives_it(failure: Failure) -> None:
    text = """name: toy
models:
  teacher: {model_name_or_path: org/teacher}
  student: {model_name_or_path: org/student}
stages:
  rows: {stage: toy_rows, n: 4}
  scored:
    {stage: score_likelihood, rows: rows, model: teacher, text_column: question, scorer: engine}
  trained: {stage: train_distill, model: student, teacher: teacher, rows: scored, text_column: question}
"""
    assert (
        "toy.yaml:9: stages.trained.rows: 'scored' gives no column 'teacher_log_pbs'; "
        "score_likelihood gives it, unless its scorer is an engine" in failure(text)
    )
    assert "online: true" in failure(text.replace("rows: scored", "rows: rows"))


def test_templates_are_checked(failure: Failure, good: str, tmp_path: Path) -> None:
    def with_template(name: str) -> str:
        return good.replace("    rows: numbers", f"    rows: numbers\n    template: {name}", 1)

    assert "template 'nowhere.jinja' is not there" in failure(with_template("nowhere.jinja"))
    bad = tmp_path / "bad.jinja"
    bad.write_text("{{ question }} {{ qestion }}")
    assert "reads 'qestion', which is neither a column" in failure(with_template(str(bad)))
    bad.write_text("line\n{% for x in %}")
    assert "bad.jinja:2" in failure(with_template(str(bad)))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("3", "stages.more.template: should be text or should be a mapping, got 3"),
        ("[a]", "stages.more.template: should be text or should be a mapping"),
        ("{a: 3}", "stages.more.template.a: should be text, got 3"),
        ("nope.jinja", "toy.yaml:22: stages.more.template: template 'nope.jinja' is not there"),
        ("{a: nope.jinja}", "stages.more.template.a: template 'nope.jinja' is not there"),
    ],
)
def test_one_problem_for_a_setting_that_may_be_this_or_that(
    failure: Failure, good: str, template: str, expected: str
) -> None:
    more = f"""\
  more:
    stage: generate
    template: {template}
    rows: numbers
    model: teacher
profiles:
"""
    message = failure(good.replace("profiles:\n", more))
    assert message.startswith("1 problem in")
    assert expected in message


WRONG_STAGE = """\
  answers:
    stage: toy_map
    rows: nmbers
    template: nope.jinja
"""


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("", "", ()),
        ("nmbers\n", "nmbers\n    drop_odd: perhaps\n", ("answers.drop_odd: should be",)),
        ("nmbers\n", "answers\n    also: [nmbers]\n", ("in a circle: answers",)),
        ("nmbers\n", "[a]\n    also: [nmbers]\n", ("answers.rows: should be text",)),
    ],
)
def test_references_and_templates_are_checked_whatever_else_is_wrong(
    failure: Failure, good: str, old: str, new: str, expected: tuple[str, ...]
) -> None:
    head, tail = good.index("  answers:"), good.index("  trained:")
    message = failure(good[:head] + WRONG_STAGE.replace(old, new, 1) + good[tail:])
    said = ("no stage 'nmbers'; did you mean 'numbers'?", "template 'nope.jinja'", *expected)
    assert message.startswith(f"{len(said)} problems in")
    assert all(part in message for part in said)


def test_a_stage_that_is_incomplete_counts_among_what_is_allowed(
    failure: Failure, good: str
) -> None:
    message = failure(good.replace("n: 4", "n: x").replace("rows: numbers", "rows: nmbers"))
    assert "no stage 'nmbers'; did you mean 'numbers'? allowed: numbers" in message


def test_all_problems_are_said_at_once(failure: Failure, good: str) -> None:
    text = (
        good.replace("n: 4", "m: 4")
        .replace("rows: numbers", "rows: nothing")
        .replace("seed: 3", "seed: -3")
    )
    message = failure(text)
    assert message.startswith("3 problems in")
    assert all(part in message for part in ("unknown setting 'm'", "'nothing'", "got -3"))


def test_no_stages(failure: Failure) -> None:
    assert "a pipeline needs stages" in failure("name: a\n")


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("pipelines/art.yaml", "no pipeline file pipelines/art.yaml; did you mean 'pipelines/arte.yaml'? there are: "),
        ("toyy.yaml", "no pipeline file toyy.yaml; did you mean 'toy.yaml'? there are: toy.yaml, pipelines/"),
        (".", ". is a directory, not a pipeline file; there are: toy.yaml, pipelines/"),
    ],
)  # fmt: skip
def test_no_such_file(
    good: str, file: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toy.yaml").write_text(good)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load_pipeline(file)
    said = str(caught.value)
    assert said.startswith(expected)
    assert said.partition("there are: ")[2].partition(" and ")[0].count(",") == 4
    assert said.endswith(" more (llm-distill init --list lists the shipped ones)")


def test_long_lists_are_cut() -> None:
    assert nearest("x", map(str, range(1000))).endswith("and 960 more")


def test_unknown_profile_and_set(failure: Failure, good: str) -> None:
    assert "no profile 'bgi'; did you mean 'big'?" in failure(good, profile="bgi")
    assert "no stage 'nmbers'; did you mean" in failure(good, assignments=["stages.nmbers.n=1"])
    assert "expected place=value" in failure(good, assignments=["stages.numbers.n"])
    assert "--set stages.numbers.n=x: stages.numbers.n" in failure(
        good, assignments=["stages.numbers.n=x"]
    )


def test_optional_stages_run_only_where_they_are_read(load: Load, failure: Failure) -> None:
    text = """
name: toy
stages:
  numbers: {stage: toy_rows}
  one: {stage: toy_map, rows: numbers, optional: true}
  deeper: {stage: toy_map, rows: numbers, optional: true}
  other: {stage: toy_map, rows: deeper, optional: true}
  last: {stage: toy_map, rows: one}
"""
    assert list(load(text).stages) == ["numbers", "one", "last"]
    assert load(text).unread == ("deeper", "other")
    assert "optional and no stage reads it" in load(text).why_no_stage("other")
    assert "no such stage" in load(text).why_no_stage("otter")
    other = load(text, assignments=["stages.last.rows=other"])
    assert list(other.stages) == ["numbers", "deeper", "other", "last"]
    wrong = text.replace("rows: deeper", "rows: deeeper")  # checked although it does not run
    assert "deeeper" in failure(wrong)
    alone = "name: toy\nstages: {numbers: {stage: toy_rows, optional: true}}\n"
    assert "every stage is optional" in failure(alone)
