"""What a person sees of work that takes a while."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from llm_distill.runtime import progress
from llm_distill.runtime.progress import show_progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test says so."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_a_line_every_few_seconds(clock):
    out = io.StringIO()
    with show_progress(Console(file=out, width=120), "train", 30, "steps", 10) as bar:
        bar.advance(1, 100)
        assert out.getvalue() == ""
        clock[0] += 5
        bar.advance(4, 900)
    assert out.getvalue() == "  train: 15/30 steps, 1.0 steps/s, 200 tokens/s, 15 s left\n"


def test_without_a_total_there_is_no_time_left(clock):
    out = io.StringIO()
    with show_progress(Console(file=out, width=120), "load", None) as bar:
        clock[0] += 10
        bar.advance(1500)
    assert out.getvalue() == "  load: 1,500 rows, 150.0 rows/s\n"


@pytest.mark.parametrize(
    ("left", "text"), [(59, "59 s"), (125, "2 min 05 s"), (9000, "2 h 30 min")]
)
def test_long_waits_are_in_minutes_and_hours(clock, left, text):
    out = io.StringIO()
    with show_progress(Console(file=out, width=120), "train", 10 + left, "steps") as bar:
        clock[0] += 10
        bar.advance(10)
    assert out.getvalue().endswith(f"{text} left\n")


def test_on_a_terminal_a_bar_that_goes_away():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    with show_progress(console, "train", 30, "steps", 10) as bar:
        bar.advance(5, 100)
    assert "15/30" in out.getvalue()
    assert "steps/s" in out.getvalue()
    assert out.getvalue().endswith("\x1b[2K")
