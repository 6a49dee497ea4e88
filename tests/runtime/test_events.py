"""`run --log-format json`: the lines, their keys as documented, and nothing else on stdout."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from llm_distill.cli import events
from llm_distill.cli.events import EventDisplay, event_lines
from llm_distill.errors import DataError
from llm_distill.runtime.artifact import Artifact
from tests.manifests import manifest

PAGE = Path(__file__).parents[2] / "docs" / "following-along.md"
TOY = """\
name: toy
stages:
  numbers: {stage: toy_rows, n: 4}
  answers: {stage: toy_map, rows: numbers, drop_odd: true}
"""


def documented() -> dict[str, set[str]]:
    """The keys of each event, out of the page's table."""
    table = PAGE.read_text().partition("## A line of JSON")[2]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", table, re.MULTILINE)
    return {event: set(re.findall(r"`(\w+)`", keys)) for event, keys in rows}


def lines(text: str) -> list[dict[str, Any]]:
    """Every line, with its keys checked against the page, and without its time."""
    found = [json.loads(line) for line in text.splitlines()]
    for event in found:
        assert datetime.fromisoformat(event.pop("time")).tzinfo is not None
        assert set(event) - {"event"} == documented()[event["event"]], event
    return found


@pytest.fixture
def run(bench: Any, cli: Any) -> Callable[..., tuple[list[dict[str, Any]], Any]]:
    toy = bench(TOY)

    def call(*options: str) -> tuple[list[dict[str, Any]], Any]:
        where = ("--workspace", toy.workspace.root)
        said = cli("run", toy.file, "--log-format", "json", *where, *options)
        return lines(said.out), said

    return call


def test_a_run_and_its_rerun(run: Any) -> None:
    found, said = run()
    assert (said.code, said.err) == (0, "")
    happened = [(event["event"], event.get("stage")) for event in found]
    assert happened == [
        ("run_started", None),
        ("stage_started", "numbers"),
        ("stage_finished", "numbers"),
        ("stage_started", "answers"),
        ("stage_finished", "answers"),
        ("run_finished", None),
    ]
    assert found[0]["stages"] == ["numbers", "answers"]
    assert found[0]["run"] == found[-1]["run"]
    assert (found[-2]["rows"], found[-2]["dropped"]) == (2, {"odd": 2})
    assert [(e["number"], e["of"]) for e in found[1:-1]] == [(1, 2), (1, 2), (2, 2), (2, 2)]
    assert (found[-1]["stages_run"], found[-1]["stages_reused"]) == (2, 0)
    assert (Path(found[-2]["artifact"]) / "manifest.json").is_file()
    assert (Path(found[0]["directory"]) / "run.json").is_file()
    again, _ = run()
    assert [event["event"] for event in again][1:3] == ["stage_reused", "stage_reused"]
    assert again[2]["artifact"] == found[-2]["artifact"]


@pytest.mark.parametrize(
    ("options", "code", "stage", "message"),
    [
        ("--set stages.numbers.m=5", 2, None, "unknown setting 'm'"),
        ("--until answer", 2, None, "did you mean 'answers'"),
        ("--set stages.numbers.n=0", 3, "answers", "stage 'answers': its input 'numbers' has no"),
        ("--set stages.numbers.error=disk_full", 5, "numbers", "the disk of"),
        (
            "--set stages.numbers.error=interrupt",
            130,
            "numbers",
            "stopped; finished stages are kept",
        ),
    ],
)
def test_what_ends_a_run_is_its_last_event(
    run: Any, options: str, code: int, stage: str | None, message: str
) -> None:
    found, said = run(*options.split())
    assert said.code == code
    last = found[-1]
    assert (last["event"], last["exit_code"], last["stage"]) == ("run_failed", code, stage)
    assert message in last["message"]
    assert (last["run"] is None) == (stage is None)
    assert said.err == ("" if code == 130 else f"error: {last['message']}\n")


def test_a_bug_is_an_event_and_keeps_its_traceback(
    bench: Any, cli: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    toy = bench(TOY)
    crash = ("--set", "stages.numbers.error=crash", "--workspace", toy.workspace.root)
    with pytest.raises(RuntimeError, match="a bug"):
        cli("run", toy.file, "--log-format", "json", *crash)
    last = lines(capsys.readouterr().out)[-1]
    assert (last["exit_code"], last["message"]) == (1, "RuntimeError: a bug")


def test_what_libraries_print_is_not_among_the_events(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        with event_lines():
            print("* a library's greeting")
            raise DataError("no rows")

    with pytest.raises(DataError):
        work()
    said = capsys.readouterr()
    assert [event["message"] for event in lines(said.out)] == ["no rows"]
    assert said.err == "* a library's greeting\n"


def test_progress_is_told_once_a_second_and_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(events.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    with EventDisplay(out).progress("generate (teacher)", 75, "rows", 10) as bar:
        for _ in range(60):
            now[0] += 0.125
            bar.advance(1, tokens=5, cost=0.25, requests=1)
    found = lines(out.getvalue())
    assert [(e["done"], e["requests"], e["tokens"]) for e in found][-1] == (70, 60, 300)
    assert len(found) == 8
    assert [e["seconds_left"] is None for e in found] == [True] * 3 + [False] * 5
    last = {k: found[-1][k] for k in ("what", "unit", "total", "cost", "seconds")}
    told = {"what": "generate (teacher)", "unit": "rows", "total": 75, "cost": 0.25, "seconds": 7.5}
    assert last == told
    assert found[-1]["seconds_left"] == pytest.approx(5 * 0.125, abs=0.2)


def test_warnings_and_scores_of_a_stage() -> None:
    out = io.StringIO()
    score = {"model": "student", "shots": 0, "accuracy": 0.5}
    said = manifest(rows_out=3, warnings=["slow"], metrics={"results": [score]})
    artifact = Artifact(Path("w/artifacts/exam-1"), said)
    display = EventDisplay(out)
    display.ends("exam", artifact, "done", 1.0)
    display.says("another run is working on it")
    warning, finished, notice = lines(out.getvalue())
    assert warning == {"event": "warning", "stage": "exam", "message": "slow"}
    assert finished["metrics"] == {"results/student/0-shot/accuracy": 0.5}
    assert notice["message"] == "another run is working on it"


def test_every_documented_event_is_one() -> None:
    source = Path(events.__file__).read_text()
    assert set(documented()) == set(re.findall(r'emit\(\s*"(\w+)"', source))


def test_where_nobody_reads_the_run_ends() -> None:
    here, there = os.pipe()
    os.close(here)
    with os.fdopen(there, "w") as out:
        with pytest.raises(SystemExit) as end:
            EventDisplay(out).says("hello?")
        assert end.value.code == 1
        out.write("what is still said goes nowhere")
