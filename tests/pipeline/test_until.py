"""`until` of a repeat: what it may name, what `@best` and `@last` mean, and every mistake once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.pipeline.settled import settled
from llm_distill.stage import references

Load = Callable[..., PipelineConfig]
Failure = Callable[..., str]

TOY = """\
name: toy
models:
  teacher: {model_name_or_path: org/teacher}
stages:
  numbers: {stage: toy_rows}
  rounds:
    repeat:
      times: 4
      until: {watch: exam, no_gain: 2}
      start: {trained: teacher}
      stages:
        answers: {stage: toy_map, rows: numbers}
        trained: {stage: toy_train, model: trained@previous, rows: answers}
        exam: {stage: toy_exam, rows: numbers, model: trained, right: [1, 2, 3, 4]}
  best: {stage: toy_train, model: trained@best, rows: answers@1}
  both: {stage: toy_map, rows: answers@last, also: [numbers, answers@best, answers@last]}
  again:
    repeat:
      times: 2
      start: {second: trained@best}
      stages:
        second: {stage: toy_train, model: second@previous, rows: numbers}
"""


def _named(pipeline: PipelineConfig) -> dict[str, list[str]]:
    return {n: [target for _, target, _ in references(s)] for n, s in pipeline.stages.items()}


def test_best_and_last_are_settled_once_it_is_known_which_they_are(load: Load) -> None:
    pipeline = load(TOY)
    (block,) = pipeline.loops
    assert {place: (end.stage, end.which) for place, end in pipeline.ends.items()} == {
        ("best", "model"): ("trained", "best"),
        ("both", "rows"): ("answers", "last"),
        ("both", "also[1]"): ("answers", "best"),
        ("both", "also[2]"): ("answers", "last"),
        ("second@1", "model"): ("trained", "best"),
    }
    found = settled(pipeline, block, last=3, best=2)
    assert "trained@4" in pipeline.stages
    assert [name for name in found.stages if name.startswith("trained")] == [
        "trained@1",
        "trained@2",
        "trained@3",
    ]
    named = _named(found)
    assert named["best"] == ["trained@2", "answers@1"]
    assert named["both"] == ["answers@3", "numbers", "answers@2", "answers@3"]
    assert named["second@1"] == ["trained@2", "numbers"]
    assert named["second@2"] == ["second@1", "numbers"]
    assert not found.loops
    assert not found.ends


def test_the_best_and_the_last_may_be_the_same_round(load: Load) -> None:
    pipeline = load(TOY)
    found = settled(pipeline, pipeline.loops[0], last=2, best=2)
    assert _named(found)["both"] == ["answers@2", "numbers", "answers@2"]
    one = load(TOY, assignments=["stages.rounds.repeat.times=1"])
    assert _named(one)["both"] == ["answers@1", "numbers", "answers@1"]
    assert _named(settled(one, one.loops[0], last=1, best=1))["both"] == _named(one)["both"]


@pytest.mark.parametrize("times", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "named", ["best", "last", "best 1", "1 best", "best last", "last best", "best 1 last"]
)
def test_any_rounds_may_be_named_together(load: Load, times: int, named: str) -> None:
    text = TOY.replace("also: [numbers, answers@best, answers@last]", "also: [numbers, NAMED]")
    text = text.replace("NAMED", ", ".join(f"answers@{each}" for each in named.split()))
    text = text.replace("rows: answers@last,", "rows: numbers,").replace(
        "times: 4", f"times: {times}"
    )
    pipeline = load(text)
    also = pipeline.stages["both"].also  # type: ignore[attr-defined]
    assert len(also) == len(set(also))
    for last in range(1, times + 1):
        for best in range(1, last + 1):
            found = settled(pipeline, pipeline.loops[0], last, best).stages["both"].also  # type: ignore[attr-defined]
            wanted = {"best": best, "last": last, "1": 1}
            assert {*found} == {"numbers", *(f"answers@{wanted[w]}" for w in named.split())}
            assert len(found) == len({*found})


def test_an_optional_stage_is_kept_in_each_round_that_may_be_the_best(load: Load) -> None:
    text = TOY.replace(
        "        exam:",
        "        more: {stage: toy_map, rows: answers, optional: true}\n        exam:",
    )
    assert "more@2" not in load(text).stages
    read = text.replace("rows: answers@last,", "rows: more@last,")
    assert {f"more@{n}" for n in (1, 2, 3, 4)} <= set(load(read).stages)


WATCH = "until: {watch: exam, no_gain: 2}"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (WATCH, "until: {}", "stages.rounds.repeat.until: name what ends the rounds: watch (with no_gain, target), tokens, cost"),
        (WATCH, "until: {no_gain: 2, cost: 1}", "repeat.until: no_gain: of what? name a stage of the round: watch"),
        (WATCH, "until: {watch: exam, no_gain: 0}", "repeat.until.no_gain: should be greater than or equal to 1"),
        (WATCH, "until: {wacth: exam, tokens: {teacher: 3}}", "repeat.until.wacth: unknown setting 'wacth'; did you mean 'watch'?"),
        (WATCH, "until: {watch: exma, no_gain: 1}", "repeat.until.watch: no stage 'exma' in this repeat; did you mean 'exam'?"),
        (WATCH, "until: {watch: trained, no_gain: 1}", "repeat.until.watch: 'trained' gives a model; name an exam of it"),
        (WATCH, "until: {watch: answers, no_gain: 1}", "repeat.until.column: 'answers' gives no column 'is_correct'; "),
        (WATCH, "until: {watch: exam, tokens: {techer: 5}}", "repeat.until.tokens.techer: no model 'techer'; did you mean 'teacher'?"),
        (WATCH, "until: {watch: exam, cost: 1}", "repeat.until.cost: no model that this repeat asks has a price, so no round costs anything; set"),
        (WATCH, "until: {watch: exam, tokens: {teacher: 5}}", "repeat.until.tokens.teacher: no stage of this repeat has 'teacher' write, so its tokens never end it; allowed: none"),
        (WATCH, "until: {watch: exam, target: 90}", "repeat.until.target: 90 is never reached: a share, 0.9 for 90 %"),
        ("rows: numbers, model: trained,", "rows: numbers, model: trained@previous,", "repeat.until.watch: 'exam' measures teacher, none of which its own round has trained"),
        ("rows: answers@1}", "rows: answers@2}", "stages.best.rows: 'rounds' may end before round 2 (until); allowed: answers@1, answers@best, answers@last"),
        ("second: trained@best", "second: trained@2", "stages.again.repeat.start.second: 'rounds' may end before round 2 (until)"),
        ("model: trained@best", "model: trained@6", "stages.best.model: 'trained' has 4 rounds; allowed: trained@1, trained@best, trained@last"),
    ],
)  # fmt: skip
def test_a_mistake_is_said_once_with_its_place(
    failure: Failure, old: str, new: str, expected: str
) -> None:
    assert TOY.count(old) >= 1
    message = failure(TOY.replace(old, new, 1))
    assert expected in message
    assert message.startswith("1 problem"), message


ASKS = "stage: generate, rows: numbers, template: stat/exam.jinja"
SERVERS = """\
models:
  teacher: {model_name_or_path: org/teacher}
  writer: &server
    model_name_or_path: w
    engine: {kind: openai, base_url: "http://localhost:1/v1", price: {input: 1, output: 1}}
  judge: *server
variables: {task_description: Solve., examples: []}
stages:
"""


@pytest.mark.parametrize(
    ("until", "model", "expected"),
    [
        ("tokens: {judge: 9}", "writer", "tokens.judge: no stage of this repeat has 'judge' write, so its tokens never end it; allowed: writer"),
        ("cost: 9", "teacher", "until.cost: no model that this repeat asks has a price"),
        ("tokens: {writer: 9}", "writer", ""),
        ("cost: 9", "judge", ""),
    ],
)  # fmt: skip
def test_a_budget_is_of_a_model_that_the_rounds_ask(
    load: Load, failure: Failure, until: str, model: str, expected: str
) -> None:
    _, _, after = TOY.partition("stages:\n")
    text = f"name: toy\n{SERVERS}{after}".replace("no_gain: 2", until).replace(
        "        answers:", f"        asked: {{{ASKS}, model: {model}}}\n        answers:"
    )
    if not expected:
        load(text)
        return
    message = failure(text)
    assert expected in message
    assert message.startswith("1 problem"), message


def test_a_trained_model_costs_what_the_server_of_its_base_does(load: Load) -> None:
    """Its adapter is loaded there (adapters: hot_load)."""
    _, _, after = TOY.partition("stages:\n")
    servers = SERVERS.replace("output: 1}}", "output: 1}, adapters: hot_load, model: w}")
    load(
        f"name: toy\n{servers}{after}".replace("no_gain: 2", "cost: 9")
        .replace("start: {trained: teacher}", "start: {trained: tuned}")
        .replace(
            "  rounds:",
            f"  written: {{{ASKS}, model: writer}}\n"
            "  tuned: {stage: train_sft, model: writer, rows: written, peft: {r: 4}}\n  rounds:",
        )
        .replace(
            "{stage: toy_train, model: trained@previous, rows: answers}",
            "{stage: train_sft, model: trained@previous, rows: asked, peft: {r: 4}}",
        )
        .replace(
            "        answers:",
            f"        asked: {{{ASKS}, model: trained@previous}}\n        answers:",
        )
    )


def test_without_a_measure_there_is_no_best(failure: Failure, load: Load) -> None:
    text = TOY.replace(WATCH, "until: {tokens: {teacher: 9}}").replace(
        "        answers:", f"        asked: {{{ASKS}, model: teacher}}\n        answers:"
    )
    text += "variables: {task_description: Solve., examples: []}\n"
    message = failure(text)
    assert "which round of 'rounds' is the best is not known; name the stage of a round" in message
    load(text.replace("@best", "@last").replace("also: [numbers, answers@last, ", "also: ["))
    fixed = TOY.replace(f"      {WATCH}\n", "").replace("again:\n    repeat", "again:\n    repeat")
    assert "until: {watch: …} beside times:" in failure(fixed)
