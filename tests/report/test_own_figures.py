"""A stage's own figures are in the terminal, the report and the trackers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

from rich.console import Console
from toy_measure import ToyMeasure

from llm_distill.cli.tables import result_tables
from llm_distill.evaluation.results import Figure, FigureTable, Results, shown
from llm_distill.report.charts import Scatter
from llm_distill.report.figures import distributions, planes
from llm_distill.report.page import render
from llm_distill.runtime.scalars import metric_scalars
from tests.report.runs import HOSTILE, Made

ROWS = [{"id": "a", "question": "four"}, {"id": "b", "question": "eleven here"}]


def test_a_toy_stages_figures_are_shown_everywhere(
    run_stage: Callable[..., Any], make_run: Callable[..., Made]
) -> None:
    stage = ToyMeasure.model_validate({"stage": "toy_measure", "rows": "texts"})
    ran = run_stage(stage, {"texts": ROWS})
    metrics = json.loads(json.dumps(ran.metrics))  # as read from a manifest
    assert metric_scalars(metrics) == {
        "figures/length of texts/question/value": 7.5,
        "figures/length of texts/question/low": 4,
        "figures/length of texts/question/high": 11,
        "figures/length of texts/question/n": 2,
    }
    (table,) = result_tables("measured", metrics)
    out = io.StringIO()
    Console(file=out, width=100).print(table)
    assert "measured: length of texts" in out.getvalue()
    assert "4 to 11" in out.getvalue()
    made = make_run("")
    made.stage("measured", "toy_measure", ran.rows, metrics=metrics)
    page = render(made.view)
    assert "<h3>measured: length of texts</h3>" in page
    assert (
        '<th scope="row"><span>question</span></th><td class="n">7.5</td><td class="n">4 to 11</td>'
        in page
    )


def test_own_figures_come_back_as_they_were_given() -> None:
    table = FigureTable(
        "t",
        (Figure({"a": "x"}, 0.25, 0.2, 0.3, 9, "share"), Figure({"b": "y"}, -0.1, kind="points")),
    )
    (read,) = Results.from_metrics(json.loads(json.dumps(shown(table)))).own
    assert read == table
    assert read.columns == ("a", "b", "value", "95 % interval", "items")
    assert read.cells == (("x", "", "25.0%", "20.0% to 30.0%", "9"), ("", "y", "-10.0", "", ""))


def test_malformed_own_figures_are_left_out() -> None:
    rows = [{"value": 1}, {"labels": {}, "value": "much"}, {"labels": {}, "value": float("nan")}]
    assert Results.from_metrics({"figures": [{"title": "t", "rows": rows}, 3]}).own == ()
    assert Results.from_metrics({"figures": 0.5, "results": "none"}) == Results.from_metrics({})


def test_own_figures_run_nothing_in_the_page(make_run: Callable[..., Made]) -> None:
    made = make_run("")
    metrics = shown(FigureTable(HOSTILE, (Figure({HOSTILE: HOSTILE}, 1.0),)))
    made.stage("measured", "toy_measure", ROWS, metrics=metrics)
    assert HOSTILE not in render(made.view)


def test_two_figures_of_a_line_are_drawn_against_each_other(make_run: Callable[..., Made]) -> None:
    def of(model: str, x: float, y: float | None) -> list[Figure]:
        at = {"model": model}
        second = [] if y is None else [Figure({**at, "of": "gain"}, y, kind="points")]
        return [Figure({**at, "of": "agreement"}, x, kind="share"), *second]

    figures = (*of("own", 0.8, 0.05), *of("copy", 1.0, 0.0), *of("half", 0.9, None))
    table = FigureTable("beside t", figures, across="of", drawn=("agreement", "gain"))
    made = make_run("")
    made.stage("loyal", "fidelity", ROWS, metrics=shown(table))
    (drawing,) = planes(made.view)
    assert drawing.title == "loyal: beside t, gain against agreement"
    assert isinstance(drawing.chart, Scatter)
    assert {n: (x.value, y.value) for n, (x, y) in drawing.chart.points.items()} == {
        "own": (0.8, 0.05),
        "copy": (1.0, 0.0),
    }
    assert "gain against agreement" in render(made.view)


def test_a_score_is_named_after_the_stage_that_wrote_it(make_run: Callable[..., Made]) -> None:
    made = make_run("")
    made.stage("rated", "judge_rows", [{"id": "a", "score": 0.5}])
    (figure,) = distributions(made.view)
    assert figure.title == "rated: score by judge_rows"
