"""`repeat`: what it is unrolled into, and every mistake once, with its place in the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llm_distill.methods.seeds import derive_seed
from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.stage import references

Load = Callable[..., PipelineConfig]
Failure = Callable[..., str]

TOY = """\
name: toy
seed: 3
models:
  teacher: {model_name_or_path: org/teacher}
stages:
  numbers:
    stage: toy_rows
  rounds:
    repeat:
      times: 3
      start:
        trained: teacher
        kept: numbers
      stages:
        answers:
          stage: toy_map
          rows: numbers
          also: [numbers, kept@previous]
        trained:
          stage: toy_train
          model: trained@previous
          rows: answers
        kept:
          stage: toy_map
          rows: answers
  exam:
    stage: toy_train
    model: trained@last
    rows: answers@2
profiles:
  short: {stages: {rounds: {repeat: {times: 1, stages: {answers: {column: id}}}}}}
"""
ROUND = ["answers", "trained", "kept"]


def test_a_round_is_stages_and_names_are_written_out(load: Load) -> None:
    pipeline = load(TOY)
    rounds = [f"{name}@{number}" for number in (1, 2, 3) for name in ROUND]
    assert list(pipeline.stages) == ["numbers", *rounds, "exam"]
    named = {n: [target for _, target, _ in references(s)] for n, s in pipeline.stages.items()}
    assert named == {
        "numbers": [],
        "answers@1": ["numbers", "numbers", "numbers"],
        "trained@1": ["teacher", "answers@1"],
        "kept@1": ["answers@1"],
        "answers@2": ["numbers", "numbers", "kept@1"],
        "trained@2": ["trained@1", "answers@2"],
        "kept@2": ["answers@2"],
        "answers@3": ["numbers", "numbers", "kept@2"],
        "trained@3": ["trained@2", "answers@3"],
        "kept@3": ["answers@3"],
        "exam": ["trained@3", "answers@2"],
    }
    assert pipeline.resolved["stages"]["rounds"]["repeat"]["times"] == 3  # type: ignore[index]


def test_a_nested_reference_is_written_out(load: Load) -> None:
    text = """\
name: toy
models: {teacher: {model_name_or_path: org/teacher}}
stages:
  numbers: {stage: toy_rows}
  rounds:
    repeat:
      times: 2
      start: {texts: numbers}
      stages:
        texts:
          stage: generate
          rows: numbers
          model: teacher
          template: arte/exam.jinja
          variables: {task_description: Solve it.}
          examples: {rows: texts@previous, n: 2}
"""
    stages = load(text).stages
    assert stages["texts@1"].examples.rows == "numbers"  # type: ignore[attr-defined]
    assert stages["texts@2"].examples.rows == "texts@1"  # type: ignore[attr-defined]


def test_the_first_round_may_have_nothing_before_it(load: Load, failure: Failure) -> None:
    text = TOY.replace("kept: numbers", "kept: null")
    stages = load(text).stages
    assert [stages[f"answers@{k}"].also for k in (1, 2)] == [("numbers",), ("numbers", "kept@1")]  # type: ignore[attr-defined]
    # What a stage cannot do without has to be there.
    message = failure(text.replace("          rows: numbers\n", "          rows: kept@previous\n"))
    assert message.startswith("1 problem")
    nothing = (
        "'kept@previous' is nothing in the first round (start: {kept: null}), and this cannot be "
        "left out; let start say what is there: {kept: NAME}"
    )
    assert f"answers.rows: {nothing}" in message
    for stage, where in (
        ("generate, model: teacher, template: t.jinja, rows: numbers, examples: {rows: kept@previous, n: 1}", "examples.rows"),
        ("decontaminate, rows: numbers, against: [kept@previous]", "against[0]"),
    ):  # fmt: skip
        more = f"      stages:\n        odd: {{stage: {stage}}}\n"
        message = failure(text.replace("      stages:\n", more))
        assert f"odd.{where}: {nothing}" in message
    message = failure(text.replace("kept: null", "knpt: null"))
    assert "no stage 'knpt' in this repeat; did you mean 'kept'?" in message


def test_each_round_has_a_seed_of_its_own(load: Load) -> None:
    pipeline = load(TOY)
    seeds = {name: pipeline.seed_of(name) for name in pipeline.stages}
    assert seeds["numbers"] == seeds["exam"] == 3
    assert {seeds[f"{name}@2"] for name in ROUND} == {derive_seed(3, "round", 2)}
    assert len(set(seeds.values())) == 4


def test_profiles_and_set_reach_into_a_block(load: Load, failure: Failure) -> None:
    short = load(TOY.replace("answers@2", "answers@last"), profile="short")
    assert list(short.stages) == ["numbers", *(f"{name}@1" for name in ROUND), "exam"]
    assert short.stages["answers@1"].column == "id"  # type: ignore[attr-defined]
    inside = "stages.rounds.repeat.stages"
    both = load(TOY, assignments=["stages.rounds.repeat.times=2", f"{inside}.kept.drop_odd=true"])
    assert [both.stages[f"kept@{k}"].drop_odd for k in (1, 2)] == [True, True]  # type: ignore[attr-defined]
    assert "kept@3" not in both.stages
    more = load(TOY, assignments=[f"{inside}.more={{stage: toy_map, rows: kept}}"])
    assert list(more.stages)[4] == "more@1"
    message = failure(TOY, assignments=[f"{inside}.knpt.column=x"])
    assert f"--set {inside}.knpt.column=x: {inside}.knpt: no stage 'knpt'; did you mean" in message
    assert message.startswith("1 problem")
    message = failure(TOY, assignments=["stages.ruonds.repeat.times=2"])
    assert "no stage 'ruonds'; did you mean 'rounds'?" in message
    message = failure(TOY, assignments=["stages.rounds.repeat.times=0"])
    assert "--set stages.rounds.repeat.times=0: stages.rounds.repeat.times: should be" in message


def test_an_extending_file_reaches_into_a_block(load: Load, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(TOY)
    text = "extends: base.yaml\nname: more\nstages: {rounds: {repeat: {times: 4}}}\n"
    assert "kept@4" in load(text).stages


def test_two_blocks_one_after_the_other(load: Load, failure: Failure) -> None:
    text = TOY.replace("  exam:", """\
  more:
    repeat:
      times: 2
      start: {again: trained@last}
      stages:
        again: {stage: toy_train, model: again@previous, rows: answers@1}
  exam:""")  # fmt: skip
    stages = load(text).stages
    assert [stages[f"again@{k}"].model for k in (1, 2)] == ["trained@3", "again@1"]  # type: ignore[attr-defined]
    assert stages["again@2"].rows == "answers@1"  # type: ignore[attr-defined]
    message = failure(text.replace("again: {stage", "kept: {stage"))
    assert "stages.more.repeat.stages.kept: there is another stage 'kept' in the file" in message


def test_a_setting_named_repeat_makes_no_block(failure: Failure) -> None:
    message = failure(TOY.replace("    stage: toy_rows\n", "    stage: toy_rows\n    repeat: 3\n"))
    assert "toy.yaml:8: stages.numbers.repeat: unknown setting 'repeat'" in message


INSIDE = "stages.rounds.repeat.stages"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        # the block
        ("times: 3", "times: 0", "toy.yaml:10: stages.rounds.repeat.times: should be greater than or equal to 1, got 0"),
        ("times: 3", "times: 1000", "toy.yaml:10: stages.rounds.repeat.times: should be less than or equal to 100, got 1000"),
        ("times: 3", "times: often", "toy.yaml:10: stages.rounds.repeat.times: should be a valid integer"),
        ("times: 3", "tiems: 3\n      times: 3", "toy.yaml:10: stages.rounds.repeat.tiems: unknown setting 'tiems'; did you mean 'times'?"),
        ("      times: 3\n", "", "stages.rounds.repeat.times: is required and missing"),
        ("  rounds:\n", "  rounds:\n    times: 3\n", "toy.yaml:9: stages.rounds.times: 'times' is a setting of repeat; indent it under repeat:"),
        ("  rounds:", "  my-rounds:", "toy.yaml:8: stages.my-rounds: a repeat's name has letters"),
        ("        kept:\n          stage: toy_map\n          rows: answers\n", "        kept:\n          repeat: {times: 2, stages: {}}\n", f"toy.yaml:23: {INSIDE}.kept: a repeat cannot be inside a repeat"),
        ("        kept:\n", "        numbers: {stage: toy_rows}\n        kept:\n", f"toy.yaml:23: {INSIDE}.numbers: there is another stage 'numbers' in the file"),
        # start
        ("trained: teacher", "trained: teachre", "toy.yaml:12: stages.rounds.repeat.start.trained: no model, nor a stage that trains one, named 'teachre'; did you mean 'teacher'? allowed: teacher"),
        ("trained: teacher", "trained: numbers", "toy.yaml:12: stages.rounds.repeat.start.trained: 'numbers' gives rows, where a model should be; allowed: teacher"),
        ("kept: numbers", "kept: teacher", "toy.yaml:13: stages.rounds.repeat.start.kept: 'teacher' is a model; rows are needed here; allowed: numbers"),
        ("kept: numbers", "kept: answers", "toy.yaml:13: stages.rounds.repeat.start.kept: 'answers' is a stage of this repeat; name what is there before it; allowed: numbers"),
        ("kept: numbers", "kept: answers@1", "toy.yaml:13: stages.rounds.repeat.start.kept: 'answers' is a stage of this repeat; name what is there before it; allowed: numbers"),
        ("kept: numbers", "kept: numbers\n        kpet: numbers", "toy.yaml:14: stages.rounds.repeat.start.kpet: no stage 'kpet' in this repeat; did you mean 'kept'?"),
        ("        trained: teacher\n", "", f"toy.yaml:20: {INSIDE}.trained.model: no round comes before the first; say what 'trained@previous' is there: start: {{trained: …}} beside times:"),
        # references inside
        ("model: trained@previous", "model: traned@previous", f"toy.yaml:21: {INSIDE}.trained.model: no stage 'traned' in this repeat; did you mean 'trained'?"),
        ("model: trained@previous", "model: trained@1", f"toy.yaml:21: {INSIDE}.trained.model: inside its repeat, 'trained' is that of the same round and 'trained@previous' that of the round before"),
        ("model: trained@previous", "model: trained@last", f"toy.yaml:21: {INSIDE}.trained.model: inside its repeat, 'trained' is that"),
        ("model: trained@previous", "model: teachr", f"toy.yaml:21: {INSIDE}.trained.model: no model, nor a stage that trains one, named 'teachr'; did you mean 'teacher'? allowed: teacher, trained@previous"),
        ("model: trained@previous", "model: answers", f"toy.yaml:21: {INSIDE}.trained.model: 'answers' gives rows, where a model should be; allowed: teacher, trained@previous"),
        ("model: trained@previous", "model: kept@previous", f"toy.yaml:21: {INSIDE}.trained.model: 'numbers' gives rows, where a model should be; allowed: teacher, trained@previous"),
        ("          rows: numbers", "          rows: kept", f"toy.yaml:15: {INSIDE}.answers: stages refer to each other in a circle: answers → kept → answers"),
        ("also: [numbers, kept@previous]", "also: [numbers, kepd]", f"toy.yaml:18: {INSIDE}.answers.also[1]: no stage 'kepd'; did you mean 'kept@previous'? allowed: answers@previous, kept@previous, numbers"),
        ("          rows: numbers", "          rows: rounds", f"toy.yaml:17: {INSIDE}.answers.rows: 'rounds' is a repeat; name a stage of it: answers, trained, kept"),
        ("          rows: answers\n        kept", "          rows: kept\n        kept", f"toy.yaml:22: {INSIDE}.trained.rows: 'kept' comes later in the file; put it before 'trained'"),
        # settings inside
        ("          stage: toy_train", "          stage: toy_trian", f"toy.yaml:20: {INSIDE}.trained.stage: no stage 'toy_trian'; did you mean 'toy_train'?"),
        ("          stage: toy_train\n", "", f"toy.yaml:19: {INSIDE}.trained: does not name a stage; add stage:"),
        ("          rows: numbers", "          rows: numbers\n          colunm: x", f"toy.yaml:18: {INSIDE}.answers.colunm: unknown setting 'colunm'; did you mean 'column'?"),
        ("          rows: numbers", "          rows: numbers\n          column: qestion", f"toy.yaml:17: {INSIDE}.answers.rows: 'numbers' gives no column 'qestion'"),
        ("          rows: answers\n  exam", "          rows: answers\n          column: answr\n  exam", f"toy.yaml:25: {INSIDE}.kept.rows: 'answers' gives no column 'answr'; did you mean 'answer'?"),
        ("          rows: numbers", "          rows: numbers\n          template: nowhere.jinja", f"toy.yaml:18: {INSIDE}.answers.template: template 'nowhere.jinja' is not there"),
        ("          rows: numbers", "          rows: numbers\n          template: ${NOT_SET_HERE}", f"toy.yaml:18: {INSIDE}.answers.template: ${{NOT_SET_HERE}} is not set"),
        ("        answers:\n", "        my-answers: {stage: toy_rows}\n        answers:\n", f"toy.yaml:15: {INSIDE}.my-answers: a stage's name has letters"),
        ("        answers:\n", "        1: {stage: toy_rows}\n        answers:\n", "toy.yaml:15: stages.rounds.repeat.stages[1]: should be text, got 1"),
        # outside
        ("model: trained@last", "model: trained@7", "toy.yaml:28: stages.exam.model: 'trained' has 3 rounds; allowed: trained@1, trained@2, trained@3, trained@last"),
        ("model: trained@last", "model: trained", "toy.yaml:28: stages.exam.model: 'trained' is in a repeat; allowed: trained@1"),
        ("model: trained@last", "model: trained@previous", "toy.yaml:28: stages.exam.model: '@previous' only has a meaning inside a repeat; allowed: trained@1"),
        ("model: trained@last", "model: rounds", "toy.yaml:28: stages.exam.model: 'rounds' is a repeat; name a stage of it: answers@last, trained@last, kept@last"),
        ("model: trained@last", "model: trainde@2", "toy.yaml:28: stages.exam.model: no model, nor a stage that trains one, named 'trainde@2'; did you mean 'trained@2'?"),
        ("model: trained@last", "model: kept@2", "toy.yaml:28: stages.exam.model: 'kept@2' gives rows, where a model should be; allowed: teacher, trained@1, trained@2, trained@3"),
        # names with '@'
        ("  exam:", "  exam@1:", "toy.yaml:26: stages.exam@1: a stage's name has letters, digits and underscores only"),
        ("  exam:", "  trained@1:", "toy.yaml:26: stages.trained@1: a stage's name cannot have '@' and a round"),
        ("{model_name_or_path: org/teacher}", "{model_name_or_path: org/teacher}\n  a@1: {model_name_or_path: org/a}", "toy.yaml:5: models.a@1: a model's name cannot have '@'"),
        ("{model_name_or_path: org/teacher}", "{model_name_or_path: org/teacher}\n  kept: {model_name_or_path: org/a}", "toy.yaml:5: models.kept: 'kept' is also a stage; names must differ"),
    ],
)  # fmt: skip
def test_a_mistake_is_said_once_with_its_place(
    failure: Failure, old: str, new: str, expected: str
) -> None:
    assert TOY.count(old) >= 1
    message = failure(TOY.replace(old, new, 1))
    assert expected in message
    assert message.startswith("1 problem"), message


def test_what_comes_later_in_the_file(failure: Failure) -> None:
    later = "  late:\n    stage: toy_rows\nprofiles:"
    text = TOY.replace("profiles:", later).replace("kept: numbers", "kept: late")
    place = "toy.yaml:13: stages.rounds.repeat.start.kept"
    assert f"{place}: 'late' comes later in the file; put it before 'rounds'" in failure(text)
    early = "stages:\n  early:\n    stage: toy_map\n    rows: kept@1"
    message = failure(TOY.replace("stages:", early, 1))
    assert "toy.yaml:8: stages.early.rows: 'kept@1' comes later in the file; put it" in message


@pytest.mark.parametrize(
    ("stages", "says"),
    [
        ("", "should be a mapping"),
        (" {}", "needs at least one stage"),
        (" 3", "should be a mapping"),
    ],
)
def test_a_block_without_stages(failure: Failure, stages: str, says: str) -> None:
    text = TOY[: TOY.index("      start:")] + f"      stages:{stages}\n"
    assert "stages.rounds.repeat: should be a mapping" in failure(
        TOY[: TOY.index("      times:")].replace("repeat:", "repeat: 3")
    )
    message = failure(text)
    assert f"toy.yaml:11: stages.rounds.repeat.stages: {says}" in message.replace("a repeat ", "")
    assert message.startswith("1 problem")


def test_many_rounds_are_read_in_reasonable_time_and_depth(load: Load, failure: Failure) -> None:
    assert len(load(TOY, assignments=["stages.rounds.repeat.times=100"]).stages) == 302
    text = TOY.replace("          rows: numbers", "          rows: kept")
    assert "in a circle" in failure(text, assignments=["stages.rounds.repeat.times=100"])
