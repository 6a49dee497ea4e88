"""Fixtures: an empty run, a run with everything, and the command line in an empty folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_distill.evaluation.label_figures import label_tables
from llm_distill.evaluation.results import shown
from llm_distill.report.page import render
from llm_distill.report.several import render_several
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.record import RunRecord
from tests.report.runs import HOSTILE, Made, answer, candidate, result, traced


def _run_in(folder: Path, settings: str, time: str) -> Made:
    workspace = Workspace(folder / "workspace")
    workspace.prepare()
    directory = workspace.runs / "made" / time
    directory.mkdir(parents=True)
    (directory / "pipeline.yaml").write_text(settings)
    record = RunRecord(
        directory=directory,
        name=f"made/{time}",
        state="done",
        pipeline="made.yaml",
        profile=None,
        seed=7,
        pid=0,
        started=1.0e9,
        stages={},
    )
    return Made(workspace, record)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Made]:
    """An empty run; the settings are the text of its pipeline.yaml."""

    def make(settings: str = "name: made\nstages: {}\n", time: str = "20260101-000000") -> Made:
        return _run_in(tmp_path, settings, time)

    return make


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A read-only run with every kind of figure and sample, and hostile text in all of them."""
    settings = f"name: made\nseed: 7\nstages:\n  rows: {{stage: load_dataset, path: '{HOSTILE}'}}\n"
    made = _run_in(tmp_path_factory.mktemp("whole"), settings, "20260101-000000")
    made.stage("rows", "load_dataset", [{"id": "a", "question": HOSTILE}])
    scored = [candidate(q, s, i / 4) for q in range(3) for i, s in enumerate(["long", "bare"])]
    scored.append({**candidate(9, HOSTILE, None), "rationale": HOSTILE})
    made.stage("scores", "score_in_context", scored, ("rows",))
    pairs = [
        {
            "id": f"rationale-q{q}",
            "kind": "rationale",
            "prompt": f"Explain: Question {q}?",
            "chosen": f"The bare way of {q}.",
            "rejected": f"The long way of {q}.",
            "margin": 0.25,
        }
        for q in range(3)
    ]
    made.stage("pairs", "build_preferences", pairs, ("scores",), dropped={HOSTILE: 2})
    history = [{"step": s, "loss": 2 / s, "rewards/margins": s / 10} for s in (1, 2, 3)]
    made.stage("teacher", "train_dpo", None, ("pairs",), {"history": history}, seconds=7.0)
    exam = [answer(i, m, m == "after" or i == 0) for m in ("before", "after") for i in range(30)]
    exam[0]["completion"] = HOSTILE
    made.stage(
        "exam",
        "evaluate",
        exam,
        ("rows", "teacher"),
        {
            "results": [result("before", 0, 0.3), result("after", 0, 0.6)],
            "differences": [
                {
                    "model": "after",
                    "baseline": "before",
                    "shots": 0,
                    "difference": 0.3,
                    "low": 0.2,
                    "high": 0.4,
                    "n": 30,
                }
            ],
            "by_skills": [
                {**result(m, 0, 0.5, n=n), "skills": s}
                for m in ("before", "after")
                for s, n in ((HOSTILE, 5), ("$sums$", 9))
            ],
            "contamination": {"rows": {"rows": 3}, "ngram": 8, "n_items": 30},
        },
        tokens_out=1234,
        cost=0.5,
        warnings=[HOSTILE],
        packages={"python": "3.11.7", "torch": "2.6"},
        models={"before": {"path": "tiny", "revision": None, "adapters": [], "identity": "a" * 64}},
    )
    right = [HOSTILE, *(f"a label, the {i}th of them" for i in range(20))]
    sure = {HOSTILE: [(0.95, True), (0.9, False), (0.4, True)]}
    tables = label_tables(right, {HOSTILE: [*right[:9], *right[:11], None]}, sure)
    made.stage("labels", "classification_report", None, ("rows",), shown(*tables))
    return made


@pytest.fixture(scope="session")
def whole_page(whole_run: Made) -> str:
    """Its page."""
    return render(whole_run.view)


@pytest.fixture(scope="session")
def traced_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a run whose rows come from rows of earlier stages."""
    folder = tmp_path_factory.mktemp("traced")
    made = traced(_run_in(folder, "name: made\nstages: {}\n", "20260101-000000"))
    return render(made.view)


@pytest.fixture(scope="session")
def several_page(whole_run: Made, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of two runs, one of which has everything."""
    folder = tmp_path_factory.mktemp("several")
    other = traced(_run_in(folder, "name: made\nseed: 8\nstages: {}\n", "20260202-000000"))
    other.stage("exam", "evaluate", None, (), {"results": [result("after", 0, 0.575)]})
    return render_several([whole_run.view, other.view], folder)


@pytest.fixture
def cli(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Any]:
    """The command line, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return cli
