"""A repeat that ends before its last round: what runs after it, how it resumes, what is said."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_distill.errors import ConfigError, DataError
from llm_distill.runtime.finished import open_run
from tests.engines.loopback import Loopback

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
      times: 5
      until: {watch: exam, no_gain: 2}
      start: {trained: teacher}
      stages:
        answers: {stage: toy_map, rows: numbers}
        trained: {stage: toy_train, model: trained@previous, rows: answers}
        exam: {stage: toy_exam, rows: numbers, model: trained, right: [5, 30, 31, 29, 40]}
  best: {stage: toy_train, model: trained@best, rows: answers@last}
"""
RIGHT = "stages.rounds.repeat.stages.exam.right"
UNTIL = "stages.rounds.repeat.until"


def _round(number: int) -> list[str]:
    return [f"{name}@{number}" for name in ("answers", "trained", "exam")]


FOUR = ["numbers", *(name for number in (1, 2, 3, 4) for name in _round(number)), "best"]


def test_it_ends_after_two_rounds_without_a_gain(bench: MakeBench) -> None:
    toy = bench(TOY)
    record = toy.run()
    assert toy.display.ran == FOUR
    assert list(record.stages) == FOUR
    loop = record.loops["rounds"]
    assert (loop.last, loop.best, loop.times) == (4, 3, 5)
    assert toy.display.said == [
        "rounds: ended after round 4 of 5: no gain beyond its 95 % interval on round 2 for 2 "
        "rounds; exam: 0.125, 0.750, 0.775, 0.725, best in round 3"
    ]
    manifest = json.loads((toy.artifact("best") / "manifest.json").read_text())
    assert list(manifest["models"]) == ["trained@3"]
    assert list(manifest["inputs"]) == ["trained@3", "answers@4"]


def test_a_rerun_and_a_plan_come_to_the_same_end(bench: MakeBench) -> None:
    toy = bench(TOY)
    first = toy.run()
    again = toy.run()
    assert toy.display.ran == []
    assert again.loops == first.loops
    assert {name: action for name, (action, _) in toy.plan().items()} == dict.fromkeys(
        FOUR, "reuse"
    )
    toy.run(f"{UNTIL}.no_gain=3")
    assert toy.display.ran == [*_round(5), "best"]


@pytest.mark.exhaustive  # a kill in a plain `repeat` is tested too
def test_a_kill_in_a_round_resumes_there_and_comes_to_the_same_end(
    bench: MakeBench, tmp_path: Path
) -> None:
    extra = "        extra: {stage: toy_rows, n: 1}\n        answers:"
    toy = bench(TOY.replace("        answers:", extra).replace("rows: numbers}", "rows: extra}"))
    toy.run(until="exam@2")
    trace = tmp_path / "trace"
    inside = "stages.rounds.repeat.stages.extra"
    process = toy.start("--set", f"{inside}.pause=30", "--set", f"{inside}.trace={trace}")
    end = time.monotonic() + 120
    while not trace.exists() or not trace.read_text():
        assert time.monotonic() < end, "the third round did not begin"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    record = toy.run()
    left = [name for number in (3, 4) for name in (f"extra@{number}", *_round(number))]
    assert toy.display.ran == [*left, "best"]
    loop = record.loops["rounds"]
    assert (loop.last, loop.best, loop.figures) == (4, 3, (0.125, 0.75, 0.775, 0.725))


def test_what_comes_after_waits_for_the_end(bench: MakeBench) -> None:
    toy = bench(TOY)
    toy.run(until="exam@2")
    planned = toy.plan()
    assert planned["trained@2"][0] == "reuse"
    assert planned["best"] == ("run", "upstream answers@5 and rounds will run")
    assert list(planned)[-4:] == ["answers@5", "trained@5", "exam@5", "best"]
    record = toy.run()
    assert toy.display.ran == [*_round(3), *_round(4), "best"]
    assert record.loops["rounds"].best == 3


def test_a_target_ends_it_and_the_first_round_may_reach_it(bench: MakeBench) -> None:
    toy = bench(TOY)
    record = toy.run(f"{UNTIL}.target=0.7")
    assert record.loops["rounds"].last == 2
    record = toy.run(f"{UNTIL}.target=0.1")
    assert (record.loops["rounds"].last, record.loops["rounds"].best) == (1, 1)
    assert "the first round did already, so a loop may not be needed" in toy.display.said[0]


def test_all_rounds_may_be_done(bench: MakeBench) -> None:
    toy = bench(TOY)
    record = toy.run(f"{UNTIL}.no_gain=null")
    assert record.loops["rounds"].last == 5
    assert record.loops["rounds"].best == 5
    assert "ended after round 5 of 5: all rounds are done" in toy.display.said[0]


def test_a_forced_round_and_what_comes_after_it(bench: MakeBench) -> None:
    toy = bench(TOY)
    toy.run()
    toy.run(force=("trained@4",))
    assert toy.display.ran == ["trained@4", "exam@4"]  # the best is the third
    toy.run(force=("trained@3",))
    assert toy.display.ran == ["trained@3", "exam@3", "trained@4", "exam@4", "best"]
    toy.run(force=("trained@5",))
    assert toy.display.ran == []


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("other_items=true", "until: the rows of 'exam@2': rounds are compared by figures of"),
        ("with_error=true", "row 1 of 'exam@1' has no answer .timeout.*FILE --retry-failed"),
        ("with_nulls=true", "row 0 of 'exam@1' has no number in is_correct: None; an answer"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_stops_the_run(bench: MakeBench, setting: str, says: str) -> None:
    toy = bench(TOY)
    with pytest.raises(DataError, match=says):
        toy.run(f"stages.rounds.repeat.stages.exam.{setting}")


def test_a_finished_run_knows_its_best_round(bench: MakeBench, cli: Any) -> None:
    toy = bench(TOY)
    record = toy.run()
    run = open_run(record.name, toy.workspace.root, lambda message: None)
    assert run.stage("trained@best") == "trained@3"
    assert run.stage("trained@last") == run.stage("trained") == "trained@4"
    assert run.pipeline.stages["best"].model == "trained@3"  # type: ignore[attr-defined]
    where = ("--workspace", toy.workspace.root)
    told = "rounds: ended after round 4 of 5: no gain beyond its 95 % interval"
    assert told in cli("status", *where).out.replace("\n", " ")
    assert told in cli("plan", toy.file, *where).out.replace("\n", " ")
    planned = json.loads(cli("plan", toy.file, "--json", *where).out)
    assert planned["ended"]["rounds"]["best"] == 3
    page = cli("report", record.name, *where)
    assert page.code == 0
    text = (record.directory / "report.html").read_text()
    assert "best in round 3" in text
    assert "rounds: mean of exam" in text
    path = cli("path", record.name, "trained@best", *where)
    assert "trained@3-" in path.out, path.err


ASKED = """\
name: asked
models:
  teacher:
    model_name_or_path: t
    prompt_format: text
    engine: {kind: scripted, function: "says:hello"}
stages:
  items: {stage: load_dataset, path: items.jsonl}
  rounds:
    repeat:
      times: 6
      until: UNTIL
      stages:
        drawn: {stage: select, rows: items, n: 2, order: random}
        texts:
          stage: generate
          rows: drawn
          model: teacher
          template: ask.jinja
          sampling: {temperature: 1, max_tokens: 8}
  all: {stage: select, rows: texts@last, n: 2}
"""


@pytest.fixture
def asked(
    bench: MakeBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Any]:
    (tmp_path / "says.py").write_text("def hello(request):\n    return 'one two three'\n")
    (tmp_path / "ask.jinja").write_text("{{ question }}")
    rows = [{"id": f"t{i}", "question": f"What is {i}?"} for i in range(30)]
    (tmp_path / "items.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(until: str) -> Any:
        return bench(ASKED.replace("UNTIL", until))

    return make


def test_a_run_may_stop_after_a_stage_of_the_last_round(bench: MakeBench) -> None:
    toy = bench(TOY)
    for until in ("exam@last", "trained@last"):
        record = toy.run(until=until)
        assert toy.display.ran == (FOUR[:-1] if until == "exam@last" else [])
        assert record.loops["rounds"].last == 4
        assert "best" not in record.stages
    assert list(toy.plan(until="exam@last")) == FOUR[:-1]
    with pytest.raises(ConfigError, match="--until best@last: no such stage"):
        toy.run(until="best@last")


def test_a_budget_of_tokens_ends_it_before_it_is_passed(asked: Callable[[str], Any]) -> None:
    toy = asked("{tokens: {teacher: 20}}")
    record = toy.run()
    manifest = json.loads((toy.artifact("texts@1") / "manifest.json").read_text())
    each = manifest["tokens_by_model"]["teacher"]
    assert each == 6
    assert record.loops["rounds"].last == 3
    assert (
        "'teacher' has written 18 tokens, and another round like this one would pass 20"
        in (toy.display.said[0])
    )
    # What the store has from before counts as well: a killed loop ends where it would have.
    toy.run(force=("drawn@1", "drawn@2", "texts@1", "texts@2", "texts@3"))
    assert toy.run().loops["rounds"].last == 3
    again = json.loads((toy.artifact("texts@1") / "manifest.json").read_text())
    assert again["completions"] == {"reused": 2} or again["completions"] == {"made": 2}
    assert again["tokens_by_model"]["teacher"] == each


@pytest.mark.usefixtures("asked")
def test_a_budget_of_money_ends_it_before_it_is_passed(
    bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    server = Loopback()  # each answer: 5 tokens read, 3 written
    try:
        engine = f"kind: openai, base_url: {server.url}, price: {{input: 100000, output: 200000}}"
        text = ASKED.replace("UNTIL", "{cost: 7.5}").replace(
            "or_path: t\n", "or_path: served-model\n"
        )
        toy = bench(text.replace('kind: scripted, function: "says:hello"', engine))
        record = toy.run()
        # Two answers a round: 2 · (5 · 0.1 + 3 · 0.2) = 2.20.
        assert record.loops["rounds"].last == 3
        assert (
            "ended after round 3 of 6: its rounds have cost 6.60, and another like this one would "
            "pass 7.50" in toy.display.said[0]
        )
        assert len(server.calls) == 6
        assert toy.run().loops == record.loops
        assert toy.display.ran == []
        assert toy.run("stages.rounds.repeat.until.cost=9").loops["rounds"].last == 4
        assert toy.display.ran == ["drawn@4", "texts@4", "all"]
    finally:
        server.close()
