"""Figures that go on from round to round are shown once, drawn over the rounds, with places."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from llm_distill.cli.tables import result_tables
from llm_distill.evaluation.result_rows import PlaceRow
from llm_distill.evaluation.results import Results, told_later
from llm_distill.evaluation.rollout_figures import rollout_tables
from llm_distill.methods.rollouts import Watched
from llm_distill.report.figures import courses, own_tables
from llm_distill.report.page import render
from tests.report.runs import HOSTILE, Made

PLACE = PlaceRow(row="q1", place=f"It is ⟦{HOSTILE}⟧.", teacher=-20.0, student=-0.5)


def rows(n_rounds: int) -> list[dict[str, Any]]:
    """Of math with a teacher from the second round on, of code never."""
    return [
        {
            "round": number,
            "teacher": teacher,
            **vars(Watched(40, 10.0 * number, 30.0, 0.1, 0.0, 0.02, 0)),
            **({"n_compared": 40, "reverse_kl": 0.5 / number, "reverse_kl_low": 0.1,
                "reverse_kl_high": 0.6} if teacher == "math" and number > 1 else {}),
        }
        for number in range(1, n_rounds + 1)
        for teacher in ("code", "math")
    ]  # fmt: skip


def metrics(n_rounds: int) -> dict[str, Any]:
    found = Results(own=rollout_tables(rows(n_rounds), ["teacher"]), places=(PLACE,))
    return json.loads(json.dumps(found.to_metrics()))  # type: ignore[no-any-return]


def test_a_line_of_a_table_holds_several_figures_with_their_intervals() -> None:
    read = Results.from_metrics(metrics(3))
    assert read == Results(own=rollout_tables(rows(3), ["teacher"]), places=(PLACE,))
    written, beside = read.own
    assert written.columns[:4] == ("round", "teacher", "rows", "tokens")
    assert written.cells[5] == ("3", "math", "40", "30", "30", "10.0%", "0.0%", "2.0%")
    assert beside.columns == ("round", "teacher", "rows", "reverse KL a token")
    assert beside.cells == (
        ("2", "math", "40", "0.25 (0.1 to 0.6)"),
        ("3", "math", "40", "0.1667 (0.1 to 0.6)"),
    )
    table, _ = result_tables("watched", metrics(3))
    out = io.StringIO()
    Console(file=out, width=100).print(table)
    assert "watched: rollouts" in out.getvalue()
    assert out.getvalue().count("math") == 3


def test_what_a_later_round_says_again_is_shown_once(make_run: Callable[..., Made]) -> None:
    made = make_run("")
    for number in (1, 2, 3):
        ids = [{"id": "a"}]
        made.stage(f"watched@{number}", "rollout_report", ids, metrics=metrics(number))
    titles = [title for title, _ in own_tables(made.view, of_models=False)]
    assert titles == ["watched@3: rollouts", "watched@3: rollouts beside the teacher"]
    later = told_later([Results.from_metrics(metrics(n)) for n in (1, 2, 3)])
    assert later == [{"rollouts"}, {"rollouts", "rollouts beside the teacher"}, set()]
    assert result_tables("watched", metrics(2), later[1]) == []

    lines = {drawn.title: drawn.chart for drawn in courses(made.view)}
    tokens = lines["watched@3: tokens"]
    assert tokens.points == {  # type: ignore[union-attr]
        "code": ((1.0, 10.0), (2.0, 20.0), (3.0, 30.0)),
        "math": ((1.0, 10.0), (2.0, 20.0), (3.0, 30.0)),
    }
    assert tokens.table().columns == ("round", "code", "math")
    kl = lines["watched@3: reverse KL a token"]
    assert kl.points == {"math": ((2.0, 0.25), (3.0, pytest.approx(0.5 / 3)))}  # type: ignore[union-attr]

    page = render(made.view)
    assert page.count("where teacher and student differ most</summary>") == 3
    assert HOSTILE not in page
    assert "-19.50" in page
