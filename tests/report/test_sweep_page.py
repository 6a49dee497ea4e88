"""The page of a sweep: tables, plots, links to reports; nothing that others wrote runs."""

from __future__ import annotations

from pathlib import Path

from llm_distill.report.sweep_page import MOST_POINTS, write_page
from llm_distill.sweeps.figures import Baseline, rows_of
from llm_distill.sweeps.outcomes import Items, Measured, Outcome, SweepFile
from tests.report.runs import HOSTILE, Page


def _sweep(models: tuple[str, ...] = ("weak", HOSTILE), n_settings: int = 2) -> SweepFile:
    file = SweepFile(pipeline="made", places=("stages.x.n",), items={"x": Items(n=4)})
    for n in range(n_settings):
        for seed in (1, 2):
            figures = [
                Measured(
                    stage="exam",
                    labels={"model": model, "shots": "0"},
                    kind="share",
                    value=0.5,
                    n=4,
                    items="x",
                    marks="0110" if seed == 1 else "0101",
                )
                for model in models
            ]
            figures.append(
                Measured(stage="taught", labels={"model": "m"}, kind="number", value=seed * 1.5)
            )
            file.put(
                Outcome(
                    settings={"stages.x.n": n},
                    seed=seed,
                    state="done",
                    run=f"made/{n}-{seed}",
                    report=f"runs/made/{n}-{seed}/report.html",
                    recipe="r",
                    figures=tuple(figures),
                )
            )
    return file


def _page(folder: Path, file: SweepFile) -> Page:
    path = folder / "sweeps" / "made" / "now" / "sweep.html"
    path.parent.mkdir(parents=True)
    write_page(path, file, rows_of(file, Baseline()), ["mind the gap", HOSTILE], folder)
    return Page(path.read_text(encoding="utf-8"))


def test_figures_plots_and_links(tmp_path: Path) -> None:
    report = tmp_path / "runs" / "made" / "1-2" / "report.html"
    report.parent.mkdir(parents=True)
    report.write_text("a report")
    page = _page(tmp_path, _sweep())
    for text in (
        "exam: accuracy, mean over seeds",
        "50.0%",
        "mind the gap",
        "over seeds and items",
    ):
        assert text in page.text
    links = [a["href"] for a in page.attributes("a") if not str(a["href"]).startswith("#")]
    assert links == ["../../../runs/made/1-2/report.html"]  # the only report that is there
    titles = [svg["aria-label"] for svg in page.attributes("svg")]
    assert titles == [
        "exam, 0-shot: accuracy",
        "exam, 0-shot: difference to weak",
        "taught: value",
    ]


def test_nothing_runs_and_nothing_is_loaded(tmp_path: Path) -> None:
    page = _page(tmp_path, _sweep())
    assert HOSTILE in page.text
    assert page.attributes("script") == [{}]  # our own, which the policy names by its digest
    assert page.attributes("img") == []
    (policy,) = [m["content"] for m in page.attributes("meta") if "http-equiv" in m]
    assert str(policy).startswith("default-src 'none'; style-src 'sha256-")
    assert str(policy).count("script-src 'sha256-") == 1


def test_a_plot_has_as_many_points_as_can_be_read(tmp_path: Path) -> None:
    page = _page(tmp_path, _sweep(("weak",), MOST_POINTS + 3))
    assert f"The first {MOST_POINTS}; 3 more are not drawn." in page.text
