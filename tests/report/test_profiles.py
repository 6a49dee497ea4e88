"""Missing skills as a chart, and as the terminal's table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from llm_distill.cli.tables import MOST_SKILLS, result_tables
from llm_distill.report.charts import Shares
from llm_distill.report.figures import MOST_DRAWN, profiles
from llm_distill.report.page import render
from llm_distill.report.plots import draw
from tests.report.runs import HOSTILE, Made, Page


def skill(name: str, weight: float, high: float | None = None) -> dict[str, Any]:
    return {
        "id": f"sums/{name}",
        "task": "sums",
        "skill": name,
        "count": 3,
        "weight": weight,
        "weight_low": weight / 2,
        "weight_high": high or weight * 1.5,
    }


def metrics(*skills: dict[str, Any]) -> dict[str, Any]:
    return {"n_questions": 9, "skill_profile": list(skills)}


def test_weights_are_drawn_with_their_intervals(make_run: Callable[..., Made]) -> None:
    run = make_run()
    found = metrics(skill("carrying", 0.1), skill("order", 0.04))
    run.stage("profile", "skill_profile", [{"id": "a"}], metrics=found)
    (figure,) = profiles(run.view)
    assert figure.title == "profile: missing skills"
    chart = figure.chart
    assert isinstance(chart, Shares)
    drawn = {name: str(shares["weight"]) for name, shares in chart.shares.items()}
    assert drawn == {"carrying": "10.0% (5.0% to 15.0%)", "order": "4.0% (2.0% to 6.0%)"}
    assert chart.end == 0.2
    svg = draw(chart, "plot-1", "missing skills")
    texts = [element.text for element in ElementTree.fromstring(svg).iter() if element.text]
    assert {"carrying", "10.0%", "4.0%", "0%", "15%", "20%"} <= set(texts)
    assert "100%" not in texts
    page = Page(render(run.view))
    assert "profile: missing skills" in page.text
    assert "10.0% (5.0% to 15.0%)" in page.text


def test_of_several_tasks_a_skill_has_its_tasks_name_too(make_run: Callable[..., Made]) -> None:
    run = make_run()
    found = metrics(skill("adding", 0.2), {**skill("adding", 0.1), "task": "dates"})
    run.stage("profile", "skill_profile", [{"id": "a"}], metrics=found)
    assert list(profiles(run.view)[0].chart.shares) == ["adding (sums)", "adding (dates)"]


@pytest.mark.parametrize(
    ("high", "end"), [(0.1, 0.1), (0.11, 0.2), (0.4, 0.4), (0.79, 0.8), (0.81, 1.0), (1.0, 1.0)]
)
def test_the_axis_ends_after_the_widest_interval(
    make_run: Callable[..., Made], high: float, end: float
) -> None:
    run = make_run()
    run.stage("profile", "skill_profile", [{"id": "a"}], metrics=metrics(skill("a", 0.05, high)))
    assert profiles(run.view)[0].chart.end == end


def test_of_many_skills_the_first_are_drawn_and_the_rest_is_said(
    make_run: Callable[..., Made],
) -> None:
    run = make_run()
    many = [skill(f"s{i}", 0.01) for i in range(MOST_DRAWN + 2)]
    run.stage("profile", "skill_profile", [{"id": "a"}], metrics=metrics(*many))
    (figure,) = profiles(run.view)
    assert list(figure.chart.shares)[-1] == f"s{MOST_DRAWN - 1}"
    assert "2 more are not drawn" in figure.note
    assert draw(figure.chart, "plot-1", "x")
    (table,) = result_tables("profile", metrics(*many))
    assert (table.row_count, table.caption) == (MOST_SKILLS, "and 2 more")


def test_no_skills_or_malformed_ones_draw_nothing(make_run: Callable[..., Made]) -> None:
    run = make_run()
    for number, found in enumerate(
        ({"skill_profile": []}, {"skill_profile": "x"}, {"skill_profile": [1, {"skill": "a"}]}, {})
    ):
        run.stage(f"profile{number}", "skill_profile", [{"id": "a"}], metrics=found)
    assert profiles(run.view) == []


def test_the_terminals_table() -> None:
    console = Console(width=100, record=True)
    odd = {**skill("carrying", 0.421, 0.5), "id": "sums/[bold]"}
    (table,) = result_tables("profile", metrics(odd))
    console.print(table)
    text = console.export_text()
    assert "profile: missing skills" in text
    assert "sums/[bold]" in text
    assert "42.1%" in text
    assert "21.1% to 50.0%" in text
    assert text.count("more") == 0
    assert result_tables("profile", {"skill_profile": []}) == []


def test_a_hostile_name_is_text(make_run: Callable[..., Made]) -> None:
    run = make_run()
    found = metrics({**skill("a", 0.1), "skill": HOSTILE})
    run.stage("profile", "skill_profile", [{"id": "a"}], metrics=found)
    page = Page(render(run.view))
    assert len(page.attributes("script")) == 1
    assert HOSTILE[:20] in page.text
