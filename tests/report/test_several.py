"""Several runs on one page."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_distill.report.several import render_several
from tests.report.runs import HOSTILE, Made, Page, result

MakeRun = Callable[..., Made]
Cli = Callable[..., tuple[int, str, str]]


def _run(make_run: MakeRun, seed: int, accuracy: float, **more: Any) -> Made:
    made = make_run(f"seed: {seed}\nstages: {{exam: {{n: 3}}}}\n", str(seed))
    history = [{"step": s, "loss": 2 / s, "eval_loss": 3 / s} for s in (1, 2)]
    made.stage("student", "train_sft", None, (), {"history": history})
    difference = {"model": "after", "baseline": "before", "shots": 0, "difference": accuracy - 0.3}
    rows = [result("before", 0, 0.3), result("after", 0, accuracy)]
    figures = {"results": rows, "differences": [{**difference, "low": 0.1, "high": 0.4}], **more}
    made.stage("exam", "evaluate", [{"id": "1"}], ("student",), figures)
    return made


@pytest.fixture
def runs(make_run: MakeRun) -> list[Made]:
    return [_run(make_run, seed, 0.5 + seed / 40) for seed in (1, 2, 3)]


def _page(runs: list[Made], folder: Path) -> str:
    return render_several([made.view for made in runs], folder)


def test_results_stand_side_by_side_with_intervals(runs: list[Made], tmp_path: Path) -> None:
    text = " ".join(Page(_page(runs, tmp_path)).text.split())
    for part in (
        "3 runs",
        "A, seed: 1B, seed: 2C, seed: 3",  # the heads of the columns
        "after, 0-shot52.5% (42.5% to 62.5%)55.0% (45.0% to 65.0%)57.5% (47.5% to 67.5%)",
        "after − before, 0-shot+22.5 (+10.0 to +40.0)",
        "exam, 0-shot: accuracy by run",
        "student: training loss",
        "student: validation loss",
        "settingABC seed123",
    ):
        assert part in text, part
    assert "B − A" not in text


def test_of_two_runs_the_change_is_shown(runs: list[Made], tmp_path: Path) -> None:
    text = " ".join(Page(_page(runs[::2], tmp_path)).text.split())
    assert "B − A" in text
    assert "57.5% (47.5% to 67.5%)+5.0 points" in text


def test_a_stage_that_only_some_runs_have_is_named(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [_run(make_run, seed, 0.5) for seed in (1, 2)]
    runs[1].stage("more", "toy_rows", [{"id": "1"}])
    text = " ".join(Page(_page(runs, tmp_path)).text.split())
    assert re.search(r"morenot in this run[0-9a-f]{12}, 1 row", text)


def test_a_run_is_linked_where_its_report_is(runs: list[Made], tmp_path: Path) -> None:
    (runs[1].record.directory / "report.html").write_text("")
    links = [str(a["href"]) for a in Page(_page(runs, tmp_path)).attributes("a")]
    (address,) = (link for link in links if not link.startswith("#"))
    assert (tmp_path / address).resolve() == runs[1].record.directory / "report.html"


def test_hostile_text_stays_text(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [
        _run(make_run, seed, 0.5, results=[result(f"{HOSTILE}{seed}", 0, 0.5)]) for seed in (1, 2)
    ]
    made = make_run(f"name: '{HOSTILE}'\nstages: {{}}\n", "3")
    made.stage(HOSTILE.replace("/", ""), "x", None, (), {"results": [result(HOSTILE, 0, 0.5)]})
    page = _page([*runs, made], tmp_path)
    assert page.count("<script") == 1
    assert not Page(page).attributes("img")
    assert Page(page).text.count(HOSTILE) >= 3


def test_many_runs_have_their_own_letters(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run("name: made\nstages: {}\n", f"t{n}") for n in range(28)]
    text = Page(_page(runs, tmp_path)).text
    assert "A2: made/t26" in text
    assert "the settings are the same" in text


def test_the_command_takes_any_number_of_runs(cli: Cli, tmp_path: Path) -> None:
    toy = tmp_path / "toy.yaml"
    toy.write_text("name: toy\nstages: {a: {stage: toy_rows}}\n")
    cli("run", toy)
    cli("run", toy, "--set", "stages.a.n=5")
    first, second = (f"toy/{path.name}" for path in sorted(Path("data/runs/toy").iterdir()))
    code, out, _ = cli("report", first, second)
    assert code == 0
    assert out.splitlines()[-1] == f"report: {Path('data/runs/compared.html')}"
    text = " ".join(Page(Path("data/runs/compared.html").read_text()).text.split())
    assert "stages.a.n—5" in text
    assert "setting n: 3 → 5" in text
    assert cli("report", first, second, "--output", tmp_path / "mine.html")[0] == 0
    assert (tmp_path / "mine.html").is_file()
    code, _, err = cli("report", "toy", second)
    assert (code, f"{second} is named twice" in err) == (2, True)
    assert cli("status", "toy")[0] == 0  # the page is not taken for a run
