"""What a person sees of work that takes a while."""

from __future__ import annotations

import io
import logging

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


@pytest.mark.parametrize("is_terminal", [False, True])
def test_what_is_waited_for_is_said_until_something_comes(is_terminal):
    out = io.StringIO()
    console = Console(file=out, force_terminal=is_terminal, width=120)
    with show_progress(console, "generate (teacher)", 30) as bar:
        logging.getLogger("llm_distill.waiting").warning("model '%s' waits %d s", "teacher", 20)
        if is_terminal:
            bar._progress.refresh()
    assert "model 'teacher' waits 20 s" in out.getvalue()
    out.truncate(0)
    with show_progress(console, "generate (teacher)", 30) as bar:
        logging.getLogger("llm_distill.waiting").warning("it waits")
        bar.advance()
        if is_terminal:
            out.truncate(0)
            bar._progress.refresh()
    assert is_terminal != ("it waits" in out.getvalue())


@pytest.mark.parametrize("width", [40, 60, 80, 100])
@pytest.mark.parametrize("description", ["generate (teacher)", "score in context (a-long-name)"])
def test_a_bar_is_one_line_however_narrow_the_terminal(width, description):
    console = Console(file=io.StringIO(), width=width, force_terminal=True)
    with show_progress(console, description, 123456) as bar:
        task = bar._progress.tasks[0]
        task._get_time, task.start_time = lambda: 100.0, 0.0
        bar.advance(12345, 10**6)
        with console.capture() as captured:
            console.print(bar._progress.get_renderable())
    assert captured.get().count("\n") == 1
    if width >= 80:
        assert f"{description[:19]}" in captured.get()
        assert "12345/123456" in captured.get()
        assert "15 min 00 s left" in captured.get()
