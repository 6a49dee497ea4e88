"""What a stage has asked, written and paid is in the run's record while it goes on."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

from llm_distill.cli import events
from llm_distill.manifest import Pace
from llm_distill.runtime import progress
from llm_distill.runtime.estimate import _seconds
from llm_distill.runtime.measured import Measured
from llm_distill.runtime.progress import Counts, every
from llm_distill.runtime.record import StageRecord
from tests.manifests import manifest


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_requests_are_counted_and_what_was_known_before_is_not(clock: list[float]) -> None:
    stage, shown = StageRecord(), Counts()
    measured = Measured(lambda *_: nullcontext(shown), stage)
    with measured.progress("generate (teacher)", 4, "rows", 0) as bar:
        clock[0] += 30  # the model is loaded
        bar.advance(1, 20, 0.5, 1)
        bar.advance(1, 0, 0.5, 0)
        assert (stage.requests, stage.tokens, stage.cost) == (1, 20, 0.5)
        clock[0] += 2
        bar.advance(1, 20, 1.0, 1)
        clock[0] += 2
        bar.advance(1, 20, 1.5, 1)
    with measured.progress("train", 2, "steps", 0) as bar:
        bar.advance(2, 512)  # asks nobody
    assert (stage.requests, stage.tokens, stage.cost) == (3, 60, 1.5)
    assert measured.paces == {"generate (teacher)": Pace(first=1, start=30, units=2, seconds=4)}
    assert shown.taken() == (6, 572, 0.0, 3)


def test_what_comes_together_is_taken_away_together() -> None:
    counts, taken = Counts(), []
    for _ in range(64):
        counts.advance(1, 10, requests=1)
    assert counts.taken() == (64, 640, 0.0, 64)
    assert counts.taken() is None
    counts.advance(2)
    assert counts.taken() == (2, 0, 0.0, None)
    with every(0.001, lambda: taken.append(1)):
        while len(taken) < 3:
            pass


def test_what_a_thread_raises_is_raised_at_its_end() -> None:
    raised: list[int] = []

    def fail() -> None:
        raised.append(1)
        raise SystemExit(1)

    def work() -> None:
        with every(0.001, fail):
            while not raised:
                pass

    with pytest.raises(SystemExit):
        work()


def test_a_hundred_times_the_rows_do_not_load_the_model_a_hundred_times() -> None:
    pace = Pace(first=10, start=52.0, units=30, seconds=6.0)
    last = manifest(seconds=60.0, rows_in=40, completions={"made": 40}, tokens_out=400)
    assert _seconds(last, 4000, 40_000, 4000) == pytest.approx(6000)
    known = last.model_copy(update={"paces": {"generate (teacher)": pace}})
    assert _seconds(known, 4000, 40_000, 4000) == pytest.approx(52 + 800)


TOY = """\
name: toy
stages:
  numbers: {stage: toy_rows, n: 4}
  spare: {stage: toy_map, rows: numbers, optional: true}
  rounds:
    repeat:
      times: 3
      start: {said: numbers}
      stages:
        said: {stage: select, rows: said@previous, n: 3, order: first}
  last: {stage: toy_map, rows: said@3}
"""


def test_stages_are_counted_with_rounds_and_without_what_nobody_reads(
    bench: Any, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = bench(TOY)
    where = ("run", toy.file, "--workspace", toy.workspace.root)
    assert cli(*where, "--until", "said@1").code == 0
    said = cli(*where)
    assert said.code == 0, said.err
    places = [line.split(";")[0] for line in said.out.splitlines() if line.startswith("▶")]
    assert places == [
        "▶ said@2 (stage 3 of 5",
        "▶ said@3 (stage 4 of 5",
        "▶ last (stage 5 of 5",
    ]
    assert "in all: 3 stages run, 2 reused; " in said.out
    monkeypatch.setattr(events, "SECONDS_BETWEEN_EVENTS", 0.0)
    assert '"number": 5, "of": 5' in cli(*where, "--log-format", "json").out
