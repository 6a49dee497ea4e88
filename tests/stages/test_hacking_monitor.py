"""hacking_monitor: planted curves are told apart; those of trainings are in their manifests."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import log
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.errors import DataError
from llm_distill.evaluation.results import Results
from llm_distill.models.sources import ModelSource
from llm_distill.runtime.context import StageContext
from llm_distill.stages import hacking_monitor
from llm_distill.stages.hacking_monitor import HackingMonitor

Run = Callable[..., Any]
STEPS = range(50, 1550, 50)


def law(step: int) -> float:
    return 8 * float(step) ** -0.6


def rows(golden: str = "", **more: Any) -> list[dict[str, Any]]:
    values = {
        "": lambda step: None,
        "u": lambda step: 0.5 + log(step / 500) ** 2 / 8,
        "falls": lambda step: 0.4 + law(step),
    }
    return [
        {"id": f"{more.get('model', 'm')}-{s}", "step": s, "proxy": law(s),
         "golden": values[golden](s), **more}
        for s in STEPS
    ]  # fmt: skip


@pytest.fixture
def monitor(run_stage: Run) -> Run:
    def run(given: list[dict[str, Any]], **settings: Any) -> Any:
        stage = HackingMonitor(stage="hacking_monitor", rows="log", **settings)
        return run_stage(stage, {"log": given})

    return run


def hacked(run: Any) -> list[int]:
    return [row["step"] for row in run.rows if row["is_hacking"]]


def test_golden_that_rises_again_is_told_with_its_step(monitor: Run) -> None:
    run = monitor(rows("u"))
    assert hacked(run)[0] > 500
    assert hacked(run) == [s for s in STEPS if s >= hacked(run)[0]]
    [said] = run.warnings
    assert "Stop near step 500" in said
    assert {**run.rows[0], "golden": None} == {
        "id": "m-50", "step": 50, "proxy": law(50), "golden": None,
        "expected": pytest.approx(law(50)), "expected_low": pytest.approx(law(50)),
        "expected_high": pytest.approx(law(50)), "excess": pytest.approx(0, abs=1e-9),
        "has_left": False, "golden_rises": False, "is_hacking": False,
    }  # fmt: skip


def test_a_power_law_is_none_with_and_without_golden(monitor: Run) -> None:
    for golden in ("", "falls"):
        run = monitor(rows(golden))
        assert not hacked(run)
        assert not run.warnings


def test_a_proxy_that_stalls_is_a_sign_and_says_what_else_it_may_be(monitor: Run) -> None:
    given = [{**row, "proxy": max(row["proxy"], law(900))} for row in rows()]
    run = monitor(given)
    assert hacked(run)[0] >= 1000
    [said] = run.warnings
    assert "a sign of teacher hacking" in said
    # Rows do not say what the rate was.
    assert "If the learning rate fell meanwhile, that bends the line as well" in said
    with_golden = [{**row, "golden": 0.4 + row["proxy"]} for row in given]
    assert not hacked(monitor(with_golden))


def test_it_stops_the_run_where_it_is_told_to(monitor: Run) -> None:
    with pytest.raises(DataError, match="teacher hacking by step .* on_hacking: warn"):
        monitor(rows("u"), on_hacking="stop")
    assert not hacked(monitor(rows("falls"), on_hacking="stop"))


def test_curves_are_told_apart_by_model_and_drawn(monitor: Run) -> None:
    both = [*rows("u", model="fixed"), *rows("falls", model="new")]
    run = monitor(both[::-1])  # in whatever order
    assert {row["model"] for row in run.rows if row["is_hacking"]} == {"fixed"}
    assert run.warnings[0].startswith("fixed: ")
    summary, course = Results.from_metrics(run.metrics).own
    assert course.over == "step"
    assert course.drawn == ("proxy", "golden")
    assert [cells[0] for cells in summary.cells] == ["new", "fixed"]
    assert {"points of hacking", "from step"} <= {*summary.columns}
    json.dumps(run.metrics, allow_nan=False)  # as a manifest has to be


def test_other_columns_are_passed_on(monitor: Run) -> None:
    run = monitor(rows("falls", note="x"))
    assert {row["note"] for row in run.rows} == {"x"}
    without = [{k: v for k, v in row.items() if k != "golden"} for row in rows()]
    assert "golden" not in monitor(without).rows[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"step": "many"}, "row m-50 of 'log': step is 'many', not a whole number"),
        ({"step": 100}, "'log': the points of a training are in the order of their steps"),
    ],
)
def test_rows_that_are_no_curve(monitor: Run, change: dict[str, Any], said: str) -> None:
    given = rows()
    given = [{**row, "step": str(row["step"])} for row in given] if "many" in said else given
    with pytest.raises(DataError, match=said):
        monitor([{**given[0], **change}, *given[1:]])


def test_a_proxy_that_is_no_number(monitor: Run) -> None:
    given = rows()
    with pytest.raises(DataError, match="row m-50 of 'log': proxy is nan, not a number"):
        monitor([{**given[0], "proxy": float("nan")}, *given[1:]])
    with pytest.raises(DataError, match="row m-100 of 'log': proxy is None"):
        monitor([given[0], {**given[1], "proxy": None}, *given[2:]])


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run_stage: Run) -> Run:
    """Runs the stage on models whose histories are given."""

    def run(stage: HackingMonitor, histories: dict[str, Any], before: Any = None) -> Any:
        class Kept:
            def __init__(self, folder: Path) -> None:
                self.metrics = {"history": histories[folder.name]}

        monkeypatch.setattr(hacking_monitor, "read_manifest", Kept)
        monkeypatch.setattr(StageContext, "artifact", lambda self, name: tmp_path / name)
        models = {name: ModelSource(name, f"made/{name}") for name in histories}
        return run_stage(stage, {"w": before} if before else {}, models=models)

    return run


def history(golden: str) -> list[dict[str, float]]:
    found: list[dict[str, float]] = [{"step": 0, "hacking/proxy": 9.0, "hacking/golden": 3.0}]
    for row in rows(golden):
        found.append({"step": row["step"], "loss": 1.0})
        found.append(
            {"step": row["step"], "hacking/proxy": row["proxy"], "hacking/golden": row["golden"]}
        )
    return found


def test_trainings_of_the_pipeline_are_compared(trained: Run) -> None:
    stage = HackingMonitor(stage="hacking_monitor", models=("fixed", "new"))
    run = trained(stage, {"fixed": history("u"), "new": history("falls")})
    assert {row["model"] for row in run.rows if row["is_hacking"]} == {"fixed"}
    assert run.rows[0]["id"] == "fixed, round 1, step 0"
    assert len(run.rows) == 2 * (1 + len(STEPS))


def test_rounds_are_one_curve(trained: Run) -> None:
    first = HackingMonitor(stage="hacking_monitor", models=("taught@1",), before=None)
    second = HackingMonitor(stage="hacking_monitor", models=("taught@2",), before="w")
    whole = history("u")
    cut = [p for p in whole if p["step"] <= 700]
    later = [{**p, "step": p["step"] - 700} for p in whole if p["step"] > 700]
    early = trained(first, {"taught@1": cut}).rows
    late = trained(second, {"taught@2": [{**cut[-1], "step": 0}, *later]}, early).rows
    assert [row["step"] for row in late] == [0, *STEPS]
    assert [row["round"] for row in late if row["step"] in (700, 750)] == [1, 2]
    alone = trained(HackingMonitor(stage="hacking_monitor", models=("taught",)), {"taught": whole})
    assert [row["is_hacking"] for row in late] == [row["is_hacking"] for row in alone.rows]
    both = HackingMonitor(stage="hacking_monitor", models=("taught@1", "taught@2"))
    beside = trained(both, {"taught@1": whole, "taught@2": whole}).rows
    assert {row["model"] for row in beside} == {"taught@1", "taught@2"}


def test_a_training_that_was_not_watched(trained: Run) -> None:
    stage = HackingMonitor(stage="hacking_monitor", models=("m",))
    with pytest.raises(DataError, match="'m' was not watched while it was trained"):
        trained(stage, {"m": [{"step": 1, "loss": 1.0}]})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "set either rows"),
        ({"rows": "a", "models": ("m",)}, "set either rows"),
        ({"rows": "a", "before": "b"}, "before needs models"),
    ],
)
def test_what_cannot_be_asked(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        HackingMonitor(stage="hacking_monitor", **settings)
