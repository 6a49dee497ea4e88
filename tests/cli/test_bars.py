"""What a person sees of work that takes a while."""

from __future__ import annotations

import io
import logging
import re
from contextlib import ExitStack

import pytest
from rich.console import Console

from llm_distill.cli import bars
from llm_distill.cli.bars import Foot, in_lines, on_terminal, show_progress
from llm_distill.runtime import progress

NAME = "tailored_student_without_preferences_round_2"


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test says so."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_a_line_every_few_seconds_once_the_rate_is_known(clock):
    out = io.StringIO()
    with show_progress(Console(file=out, width=120), "train", 30, "steps", 10) as bar:
        clock[0] += 3
        bar.advance(1, 100)  # after which the model is loaded
        assert out.getvalue() == ""
        clock[0] += 2
        bar.advance(2, 400)
        clock[0] += 5
        bar.advance(5, 1000)
    assert out.getvalue().splitlines() == [
        "  train: 13/30 steps",
        "  train: 18/30 steps, 1.0 steps/s, 200 tokens/s, 12 s left",
    ]


def test_without_a_total_there_is_no_time_left(clock):
    out = io.StringIO()
    with show_progress(Console(file=out, width=120), "load", None) as bar:
        bar.advance(1)
        clock[0] += 10
        bar.advance(1500)
    assert out.getvalue() == "  load: 1,501 rows, 150.0 rows/s\n"


def test_what_was_known_before_takes_no_time_and_is_not_in_the_rate(clock):
    out = io.StringIO()
    with show_progress(Console(file=out, width=120), "generate", 400) as bar:
        bar.advance(300, requests=0)
        for _ in range(6):
            clock[0] += 1
            bar.advance(1, 10, 0.5, requests=1)
    assert out.getvalue() == (
        "  generate: 305/400 rows, 1.0 rows/s, 10 tokens/s, cost 0.50, 1 min 35 s left\n"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(59.6, "1 min 00 s"), (59, "59 s"), (125, "2 min 05 s"), (9000, "2 h 30 min")],
)
def test_long_waits_are_in_minutes_and_hours(seconds, text):
    assert progress.spelled(seconds) == text


@pytest.mark.parametrize(("seconds", "rate"), [(30, "0.033"), (0.5, "2.0")])
def test_a_slow_rate_is_not_zero(clock, seconds, rate):
    work = progress.Work("train", 40, "steps")
    for _ in range(12):
        clock[0] += seconds
        work.advance()
    assert f", {rate} steps/s" in bars.figures(work)


def test_silent_work_is_named_after_two_seconds_and_again_each_minute(clock, monkeypatch):
    looks = []
    monkeypatch.setattr(bars, "every", lambda seconds, look: looks.append(look) or ExitStack())
    out = io.StringIO()
    with in_lines(Console(file=out, width=120), "load teacher", None, after=" (stage 7 of 28)"):
        for passed in (1, 1, 2, 57, 1):
            clock[0] += passed
            looks[0]()
    assert out.getvalue().splitlines() == [
        "  load teacher: 2 s (stage 7 of 28)",
        "  load teacher: 1 min 02 s (stage 7 of 28)",
    ]


def test_on_a_terminal_a_bar_that_goes_away():
    out = io.StringIO()
    foot = Foot(Console(file=out, force_terminal=True, width=120))
    with on_terminal(foot, "train", 30, "steps", 10, None) as bar:
        bar.advance(5, 100)
        foot._live.refresh()
    assert "15/30 steps" in out.getvalue()
    assert "15/30" not in out.getvalue().rpartition("\x1b[2K")[2]
    assert foot._live is None


@pytest.mark.parametrize("is_terminal", [False, True])
def test_what_is_waited_for_is_said_until_something_comes(is_terminal):
    out = io.StringIO()
    console = Console(file=out, force_terminal=is_terminal, width=120)

    def seen(work):
        shown = console.capture()
        with shown:
            for line in bars._lines(work, bars.Text(), 120):
                console.print(line)
        return shown.get() if is_terminal else out.getvalue()

    with show_progress(console, "generate (teacher)", 30) as bar:
        logging.getLogger("llm_distill.waiting").warning("model '%s' waits %d s", "teacher", 20)
        assert "model 'teacher' waits 20 s" in seen(bar)
        bar.advance()
        assert is_terminal != ("waits 20 s" in seen(bar))


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
@pytest.mark.parametrize("name", ["teacher", NAME])
def test_the_foot_fits_any_terminal_and_nothing_in_it_is_cut(clock, width, name):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    head = f"stage 7 of 28, {name}: 2 min 05 s; the run so far: 1,234 requests, cost 12.34"
    foot = Foot(console, lambda: head)
    with on_terminal(foot, f"generate ({name})", 123456, "rows", 0, None) as work:
        for n in (5, 5000, 7340):
            clock[0] += 10
            work.advance(n, 60 * n, 1.5, requests=n)
        with on_terminal(foot, f"load {name}", None, "rows", 0, None):
            drawn = Console(file=io.StringIO(), width=width)
            drawn.print(foot.drawn())
    lines = drawn.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    said = re.sub(r"\s+", "", drawn.file.getvalue())
    for part in (head, f"generate ({name})", "12,345/123,456 rows", "cost 1.50", f"load {name}"):
        assert part.replace(" ", "") in said
    for figure in ("12,345/123,456", "617.0", "37,020"):  # none is broken
        assert any(figure in line for line in lines)
    assert "left" in said
    assert width < 200 or name == NAME or len(lines) == 3
