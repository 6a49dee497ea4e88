"""`llm-distill sweep` from end to end, over scripted students, and once with a training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_distill.evaluation.results import Figure
from llm_distill.methods.statistics import crossed_bootstrap
from llm_distill.sweeps import carry_out
from llm_distill.sweeps.measure import _Exam, _measured
from llm_distill.sweeps.outcomes import SweepFile, read_sweep

Cli = Callable[..., Any]
HINTS = "variables.hint=low,high"


def _file(folder: Path) -> Path:
    (path,) = (folder / "data" / "sweeps" / "quick").glob("*/sweep.json")
    return path


def _n_runs(folder: Path) -> int:
    return len(list((folder / "data" / "runs" / "quick").glob("*")))


def test_a_sweep_runs_every_combination_once(quick: Path, cli: Cli) -> None:
    said = cli("sweep", quick, "--seeds", "1..3", "--set", HINTS)
    assert said.code == 0, said.err
    assert "3 seeds × 2 settings = 6 runs; 0 done before, 6 to run" in said.out
    file = read_sweep(_file(quick.parent))
    assert [(r.seed, r.settings["variables.hint"]) for r in file.done()] == [
        (seed, hint) for seed in (1, 2, 3) for hint in ("low", "high")
    ]
    assert said.out.count("✓ items") == 1  # made by the first, and shared
    again = cli("sweep", quick, "--seeds", "1..4", "--set", HINTS, "--json")
    assert _n_runs(quick.parent) == 8  # the fourth seed only
    found = json.loads(again.out)
    (strong,) = [
        figure
        for figure in found["figures"]
        if (figure["settings"], figure["labels"]["model"]) == ({"variables.hint": "high"}, "strong")
    ]
    runs = [r for r in read_sweep(_file(quick.parent)).done() if r.settings == strong["settings"]]
    weak, own = ([r.figures[i].by_item() for r in runs] for i in (0, 1))
    over_both = crossed_bootstrap(own)
    assert strong["over_seeds_and_items"] == [over_both.low, over_both.high]
    paired = [[x - y for x, y in zip(a, b, strict=True)] for a, b in zip(own, weak, strict=True)]
    assert strong["difference"]["value"] == pytest.approx(crossed_bootstrap(paired).value)
    assert strong["baseline"] == "weak"


def test_the_figures_are_the_runs_own(quick: Path, cli: Cli) -> None:
    cli("sweep", quick, "--seeds", "1,2")
    path = _file(quick.parent)
    (run, _) = read_sweep(path).runs
    record = json.loads((quick.parent / "data" / "runs" / run.run / "run.json").read_text())
    artifact = quick.parent / "data" / "artifacts" / record["stages"]["exam"]["artifact"]
    assert quick.parent / "data" / record["sweep"] == path
    assert record["assignments"] == ["seed=1"]
    results = json.loads((artifact / "manifest.json").read_text())["metrics"]["results"]
    assert {f.labels["model"]: f.value for f in run.figures} == {
        row["model"]: row["accuracy"] for row in results
    }
    assert all(sum(f.by_item()) / 30 == pytest.approx(f.value) for f in run.figures)


def test_a_figure_that_is_no_mean_over_items_has_no_marks() -> None:
    exam = _Exam(("model",), about={"a": [], "b": []})
    answers = {"a": [1.0], "b": [0.0]}
    for value, marks in ((0.5, "10"), (0.6, None)):  # such as a perplexity
        figure = Figure({"model": "weak"}, value, n=2, kind="number")
        assert _measured("exam", figure, answers, exam, {}).marks == marks


def test_every_value_is_checked_before_the_first_run(quick: Path, cli: Cli) -> None:
    said = cli("sweep", quick, "--seeds", "1..3", "--set", "stages.exam.sampling.max_tokens=8,-1,x")
    assert said.code == 2
    assert "nothing was run: max_tokens -1:" in said.err
    assert "max_tokens x:" in said.err
    assert not (quick.parent / "data").exists()
    # What only a look at the machine tells is found before the first run too.
    said = cli("sweep", quick, "--set", "models.weak.engine.function=null,'quick_students:weak'")
    assert said.code == 2
    assert _n_runs(quick.parent) == 0


def test_a_run_that_fails_is_reported_and_the_others_go_on(quick: Path, cli: Cli) -> None:
    said = cli("sweep", quick, "--seeds", "1..3", "--set", "variables.hint=crash,low")
    assert said.code == 1
    assert "error: 3 of 6 runs failed" in said.err
    assert (
        "failed, and not in any figure: seed 1, hint crash: MemoryError: out of memory" in said.out
    )
    assert len(read_sweep(_file(quick.parent)).done()) == 3
    before = _n_runs(quick.parent)
    assert cli("sweep", quick, "--seeds", "1..3", "--set", "variables.hint=crash,low").code == 1
    assert _n_runs(quick.parent) == before + 3  # those that failed are tried again


def test_a_killed_sweep_goes_on_with_what_is_missing(
    quick: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, begun = carry_out.run_pipeline, []

    def run(*given: Any, **named: Any) -> Any:
        if len(begun) == 2:
            raise KeyboardInterrupt
        begun.append(given[0].seed)
        return real(*given, **named)

    monkeypatch.setattr(carry_out, "run_pipeline", run)
    said = cli("sweep", quick, "--seeds", "1..4")
    assert said.code == 130
    assert "the same command goes on with what is missing" in said.out
    monkeypatch.setattr(carry_out, "run_pipeline", real)
    assert "2 done before, 2 to run" in cli("sweep", quick, "--seeds", "1..4").out
    assert _n_runs(quick.parent) == 4


def test_a_plan_runs_nothing(quick: Path, cli: Cli) -> None:
    cli("sweep", quick, "--seeds", "1", "--set", "variables.hint=low")
    arguments = ("sweep", quick, "--seeds", "1,2", "--set", HINTS, "--plan", "--json")
    runs = json.loads(cli(*arguments).out)["runs"]
    assert [(r["seed"], r["settings"]["variables.hint"], r["done"]) for r in runs] == [
        (1, "low", True), (1, "high", False), (2, "low", False), (2, "high", False),
    ]  # fmt: skip
    assert [(r["run"], r["shared"], r["reuse"]) for r in runs[1:]] == [
        (["exam"], [], ["items"])
    ] * 3
    shutil.rmtree(quick.parent / "data")
    runs = json.loads(cli(*arguments).out)["runs"]
    assert [(len(r["run"]), r["shared"]) for r in runs] == [
        (2, []),
        (1, ["items"]),
        (1, ["items"]),
        (1, ["items"]),
    ]
    assert not (quick.parent / "data").exists()


def test_another_pipeline_is_another_sweep(quick: Path, cli: Cli) -> None:
    cli("sweep", quick, "--seeds", "1,2")
    rows = (quick.parent / "items.jsonl").read_text()
    (quick.parent / "items.jsonl").write_text(rows.replace("repeat 3", "say 3"))
    said = cli("sweep", quick, "--seeds", "1,2")
    assert "a new sweep is begun: it differs from that of" in said.out
    assert "items: source items.jsonl changed" in said.out
    assert "0 done before, 2 to run" in said.out
    old, new = sorted((quick.parent / "data" / "sweeps" / "quick").glob("*/sweep.json"))
    refused = cli("sweep", "--from", old, "--from", new)
    assert refused.code == 2
    assert "items: source items.jsonl changed" in refused.err


def test_a_study_over_two_machines(quick: Path, cli: Cli) -> None:
    for machine, seeds in (("here", "1..2"), ("there", "3..4")):
        where = ("--workspace", machine, "--output", f"{machine}.json")
        assert cli("sweep", quick, "--seeds", seeds, *where).code == 0
        shutil.rmtree(machine)
    together = ("sweep", "--from", "here.json", "--from", "there.json")
    (weak, strong) = json.loads(cli(*together, "--json").out)["figures"]
    assert strong["seeds"] == [1, 2, 3, 4]
    assert "it is there already" in cli(*together, "--output", "here.json").err
    assert cli(*together, "--output", "all.json").code == 0
    assert json.loads(cli("sweep", "--from", "all.json", "--json").out)["figures"] == [weak, strong]
    cut = json.loads(cli(*together, "--json", "--where", "skills=odd", "--seeds", "1,3").out)
    assert (cut["figures"][0]["seeds"], cut["figures"][0]["n_items"]) == ([1, 3], 15)


def test_runs_that_there_are_do_not_mix(quick: Path, cli: Cli) -> None:
    """Other settings, other data and failed runs are told apart; none counts silently."""
    for seed in (1, 2):
        assert cli("run", quick, "--set", f"seed={seed}").code == 0
    assert cli("run", quick, "--set", "seed=3", "--set", "variables.hint=high").code == 0
    assert cli("sweep", quick, "--seeds", "5", "--set", "variables.hint=crash").code == 1
    said = cli("sweep", "--runs", "quick", "--json")
    found = {
        (figure["settings"]["stages.exam.variables.hint"], tuple(figure["seeds"]))
        for figure in json.loads(said.out)["figures"]
    }
    assert found == {("low", (1, 2)), ("high", (3,))}
    assert "(seed 5): it is failed" in said.err
    rows = (quick.parent / "items.jsonl").read_text()
    (quick.parent / "items.jsonl").write_text(rows.replace("repeat 3", "say 3"))
    assert cli("run", quick, "--set", "seed=2").code == 0
    data = json.loads(cli("sweep", "--runs", "quick", "--json", "--seeds", "1,2").out)["figures"]
    assert {tuple(figure["seeds"]) for figure in data} == {(1, 2), (2,)}


def test_figures_outlive_their_artifacts(quick: Path, cli: Cli) -> None:
    cli("sweep", quick, "--seeds", "1,2")
    before = read_sweep(_file(quick.parent))
    prune = ("prune", "--keep-size", "0", "--even-needed", "--yes")
    assert cli(*prune).code == 0
    assert "2 done before, 0 to run" in cli("sweep", quick, "--seeds", "1,2").out
    assert read_sweep(_file(quick.parent)) == before
    said = cli("sweep", "--runs", "quick")  # without the rows, no items
    assert "its items are not known" in said.out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "give one of FILE, --from and --runs; nothing is given"),
        (("quick.yaml", "--runs", "quick"), "FILE and --runs are given"),
        (("--runs", "quick", "--plan"), "--plan goes with FILE"),
        (("--runs", "nothing"), "no run"),
        (("--from", "nothing.json"), "cannot read nothing.json"),
        (("quick.yaml", "--seeds", "1..2", "--baseline", "wek"), "did you mean 'weak'"),
        (("quick.yaml", "--stage", "exm"), "did you mean 'exam'"),
    ],
)
def test_mistakes_on_the_command_line(
    quick: Path, cli: Cli, arguments: tuple[str, ...], why: str
) -> None:
    said = cli("sweep", *arguments)
    assert said.code in (2, 5)
    assert why in said.err


TRAINED = """\
name: trained
variables: {task_description: Solve it.}
models:
  student: {model_name_or_path: data/models/tiny-student, prompt_format: text}
stages:
  train: {stage: load_dataset, path: data/word_problems, split: train, limit: 16}
  test: {stage: load_dataset, path: data/word_problems, split: test, limit: 4}
  drawn: {stage: select, rows: train, n: 8, order: random}
  taught:
    stage: train_sft
    model: student
    rows: drawn
    prompt_template: arte/exam.jinja
    completion_column: reference_answer
    learning_rate: 1.0e-3
    max_steps: 2
    per_device_train_batch_size: 2
    max_length: 128
    on_collapse: ignore
  exam:
    stage: evaluate
    rows: test
    models: [student, taught]
    template: arte/exam.jinja
    sampling: {temperature: 0, max_tokens: 4}
"""


@pytest.mark.slow
def test_a_sweep_of_a_training(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """What identifies a run that trains is known before it, and the same after it."""
    monkeypatch.setattr("llm_distill.cli.sweep_command.quiet_libraries", lambda: None)
    (tmp_path / "trained.yaml").write_text(TRAINED)
    sweep = (
        "sweep", tmp_path / "trained.yaml", "--seeds", "1",
        "--set", "stages.taught.learning_rate=1e-3,1e-2", "--output", tmp_path / "out.json",
        "--workspace", tmp_path / "data",
    )  # fmt: skip
    assert cli(*sweep).code == 0
    found: SweepFile = read_sweep(tmp_path / "out.json")
    assert [len(run.figures) for run in found.done()] == [2, 2]
    assert "2 done before, 0 to run" in cli(*sweep).out
