"""The differences between two runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from llm_distill.evaluation.results import Figure, FigureTable, shown
from llm_distill.report import differences
from tests.report.runs import Made, result

MakeRun = Callable[..., Made]
Cli = Callable[..., tuple[int, str, str]]

A = "seed: 1\nstages: {exam: {shots: [0, 3], by: {}}, gone: {n: '5'}}\n"
B = "seed: 2\nstages: {exam: {shots: [0], by: {}}, new: {n: 5}}\n"


def test_settings_differ_by_place(make_run: MakeRun) -> None:
    a, b = make_run(A, "1"), make_run(B, "2")
    found = {place: values for place, *values in differences.settings(a.view, b.view)}
    assert found == {
        "seed": ["1", "2"],
        "stages.exam.shots": ["[0, 3]", "[0]"],
        "stages.gone.n": ["5", "—"],
        "stages.new.n": ["—", "5"],
    }
    assert differences.settings(a.view, a.view) == []


def test_results_are_side_by_side_even_if_they_are_equal(make_run: MakeRun) -> None:
    a, b = make_run(A, "1"), make_run(B, "2")
    a.stage("exam", "evaluate", None, (), {"results": [result("m", 0, 0.5), result("m", 3, 0.7)]})
    b.stage("exam", "evaluate", None, (), {"results": [result("m", 0, 0.5), result("new", 0, 0.1)]})
    found = differences.figures(a.view, b.view)
    assert [(p.of, *(figure and figure.value for figure in p.figures)) for p in found] == [
        ("m, 0-shot", 0.5, 0.5),
        ("m, 3-shot", 0.7, None),
        ("new, 0-shot", None, 0.1),
    ]


def test_every_kind_of_figure_is_compared(make_run: MakeRun) -> None:
    a, b = make_run(A, "1"), make_run(B, "2")
    for made, value in ((a, 0.5), (b, 0.75)):
        row = {"model": "m", "task": "sums", "metric": "f1", "value": value, "n": 4}
        made.stage("harness", "evaluate_lm_eval", None, (), {"results": [row]})
        rated = {"figure": "kappa", "annotators": ["x", "y"], "value": None if made is b else value}
        made.stage("raters", "agreement", None, (), {"agreement": [rated]})
        own = FigureTable("reading", (Figure({"rows": "all"}, value, kind="share"),))
        made.stage("measured", "toy_measure", None, (), shown(own))
    found = {pair.stage: (pair.of, pair.change) for pair in differences.figures(a.view, b.view)}
    assert found == {
        "harness": ("m, sums, f1", "+0.25"),
        "raters": ("x, y, kappa", ""),
        "measured": ("reading, all", "+25.0 points"),
    }


def test_compare_two_runs(cli: Cli, tmp_path: Path) -> None:
    toy = tmp_path / "toy.yaml"
    toy.write_text("name: toy\nstages: {a: {stage: toy_rows}, b: {stage: toy_map, rows: a}}\n")
    cli("run", toy)
    cli("run", toy, "--set", "stages.a.n=5", "--until", "a")
    first, second = sorted(path.name for path in Path("data/runs/toy").iterdir())
    code, out, _ = cli("compare", f"toy/{first}", "toy")
    assert code == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert any(
        re.fullmatch(rf"B toy/{second}, started \d{{4}}-\d\d-\d\d [\d:]+ \S+, done", line)
        for line in lines
    )
    assert "stages.a.n — 5" in lines
    assert any(
        line.startswith("a ") and "3 rows" in line and "setting n: 3 → 5" in line for line in lines
    )
    assert any(line.startswith("b ") and line.endswith("not in this run") for line in lines)
    assert "results: nothing was measured" in lines
    assert "both are the same run" in cli("compare", "toy", f"toy/{second}")[1]
    code, _, err = cli("compare", "toy", "tyo")
    assert (code, "did you mean 'toy'" in err) == (5, True)


def test_a_damaged_run_is_named_and_the_one_before_it_compared(cli: Cli, tmp_path: Path) -> None:
    toy = tmp_path / "toy.yaml"
    toy.write_text("name: toy\nstages: {a: {stage: toy_rows}}\n")
    cli("run", toy)
    cli("run", toy)
    first, second = sorted(Path("data/runs/toy").iterdir())
    (second / "run.json").write_text("{")
    code, out, _ = cli("compare", f"toy/{first.name}", "toy")
    assert code == 0
    assert f"{second.name}/run.json is damaged" in out
    assert "this is the run before it" in out
    assert "both are the same run" in out
