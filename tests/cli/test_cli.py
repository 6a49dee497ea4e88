"""The command line as a person meets it: messages, exit codes, and no heavy import too early."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from llm_distill.cli import stages as describe
from llm_distill.cli.stages import describe_stage

TOY = """\
name: toy
stages:
  numbers: {stage: toy_rows, n: 4}
  answers: {stage: toy_map, rows: numbers, drop_odd: true}
"""
CLI = [sys.executable, str(Path(__file__).parents[1] / "cli_with_toys.py")]


def llm_distill(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CLI, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "toy.yaml").write_text(TOY)
    return tmp_path


def test_run_status_and_plan(folder: Path) -> None:
    run = llm_distill("run", "toy.yaml", cwd=folder)
    assert run.returncode == 0, run.stderr
    assert "✓ answers: 2 rows, dropped 2 (odd: 2)" in run.stdout
    assert "done: toy/" in run.stdout
    status = llm_distill("status", cwd=folder)
    assert "toy/" in status.stdout
    assert "done" in status.stdout
    plan = llm_distill("plan", "toy.yaml", "--set", "stages.numbers.n=5", cwd=folder)
    assert "setting n: 4 → 5" in plan.stdout
    assert "upstream numbers will run" in plan.stdout
    again = llm_distill("run", "toy.yaml", cwd=folder)
    assert "answers: reused" in again.stdout


def test_a_users_mistake_is_one_message_without_a_traceback(folder: Path) -> None:
    wrong = llm_distill("validate", "toy.yaml", "--set", "stages.numbers.m=5", cwd=folder)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: 1 problem in toy.yaml")
    assert "Traceback" not in wrong.stderr
    missing = llm_distill("run", "nothing.yaml", cwd=folder)
    assert missing.returncode == 2
    empty = llm_distill("run", "toy.yaml", "--set", "stages.numbers.n=0", cwd=folder)
    assert empty.returncode == 3
    assert "has no rows" in empty.stderr
    none = llm_distill("status", "--workspace", "elsewhere", cwd=folder)
    assert none.returncode == 5
    usage = llm_distill("run", cwd=folder)
    assert usage.returncode == 2


def test_a_secret_is_refused_before_anything_is_written(folder: Path) -> None:
    secret = "hf_abcdefGHIJKLmnop1234567890"
    run = llm_distill("run", "toy.yaml", "--set", f"stages.answers.column={secret}", cwd=folder)
    assert run.returncode == 2
    assert "looks like a secret" in run.stderr
    assert secret not in run.stdout + run.stderr
    assert [path.name for path in folder.iterdir()] == ["toy.yaml"]


def test_a_bug_keeps_its_traceback(folder: Path) -> None:
    crash = llm_distill("run", "toy.yaml", "--set", "stages.numbers.error=crash", cwd=folder)
    assert crash.returncode == 1
    assert "RuntimeError: a bug" in crash.stderr


def test_stages_lists_and_describes(folder: Path) -> None:
    listed = llm_distill("stages", cwd=folder)
    assert "toy_map" in listed.stdout
    shown = llm_distill("stages", "toy_rows", cwd=folder)
    assert "seconds before each row (does not change the result)" in shown.stdout
    unknown = llm_distill("stages", "toy_mop", cwd=folder)
    assert unknown.returncode == 2
    assert "did you mean 'toy_map'?" in unknown.stderr


@pytest.mark.parametrize(
    ("stage", "setting", "shown"),
    [
        ("generate", "sampling.stop", "list of text"),
        ("generate", "template", "text or mapping of text"),
        ("generate", "variables", "mapping of anything"),
        ("evaluate", "models", "list of a model"),
        ("evaluate", "answer_kind", "'exact' or 'choice' or 'math'"),
        ("train_dpo", "peft", "settings or null"),
        ("toy_map", "also", "list of a stage's rows"),
    ],
)
def test_types_are_shown_in_words(
    stage: str, setting: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    describe_stage(stage)
    assert re.search(rf"^ +{setting} +{shown} ", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize(
    ("stage", "first", "last"),
    [
        (
            "generate",
            ["rows", "model", "template"],
            ["variables", "max_error_rate"],
        ),
        (
            "train_dpo",
            ["model", "rows"],
            ["eval_rows", "eval_steps", "load_best_model_at_end", "sample_weight_column"],
        ),
    ],
)
def test_what_must_be_given_comes_first_and_what_stages_share_last(
    stage: str, first: list[str], last: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    describe_stage(stage)
    table = capsys.readouterr().out.partition(" setting ")[2]
    shown = re.findall(r"^  (\w+) ", table, re.MULTILINE)
    assert shown[: len(first)] == first
    assert shown[-len(last) :] == last


@pytest.mark.parametrize("width", [80, 50])
def test_names_of_settings_are_never_cut(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(describe, "console", lambda: Console(width=width))
    describe_stage("train_dpo")
    shown = capsys.readouterr().out
    assert re.search(r"^ *per_device_train_batch_size( |$)", shown, re.MULTILINE)


@pytest.mark.parametrize(
    ("command", "forbidden"),
    [
        ("['--help']", ["torch", "datasets", "pydantic", "rich.progress"]),
        ("['validate', 'pipelines/arte.yaml']", ["torch", "datasets", "transformers"]),
        (  # of transformers it has tokenizers, to count prompts; without rows, not even these
            "['plan', 'pipelines/arte.yaml', '--workspace', 'w']",
            ["torch", "transformers.modeling_utils", "transformers.generation", "trl"],
        ),
        (
            "['plan', 'pipelines/stat_syn.yaml', '--workspace', 'w', '--until', 'train']",
            ["torch", "datasets", "transformers", "trl"],
        ),
    ],
)
def test_heavy_packages_are_not_imported(folder: Path, command: str, forbidden: list[str]) -> None:
    code = (
        f"import sys; sys.argv[1:] = {command}\n"
        "import llm_distill.cli.main as cli\n"
        "try: cli.main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"found = [name for name in {forbidden} if name in sys.modules]\n"
        "assert not found, found"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
