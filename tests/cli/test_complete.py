"""What the shell offers, and lists for other programs."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.test_cli import CLI, TOY, llm_distill

RUN = '{"stages": {"numbers": {}, "answers": {}}}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "toy.yaml").write_text(TOY + "profiles: {small: {seed: 1}}\n")
    for time in ("20260101-000000", "20260102-000000"):
        run = tmp_path / "data" / "runs" / "toy" / time
        run.mkdir(parents=True)
        (run / "run.json").write_text(RUN if time.startswith("20260102") else "{")
    return tmp_path


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("llm-distill run toy.yaml --until ", ["numbers", "answers"]),
        ("llm-distill plan --set seed=2 toy.yaml --from a", ["answers"]),
        ("llm-distill run toy.yaml --force n", ["numbers"]),
        ("llm-distill run nothing.yaml --until ", []),
        ("llm-distill run toy.yaml --profile ", ["small"]),
        ("llm-distill run pipelines/arte_s", ["pipelines/arte_small.yaml"]),
        ("llm-distill run to", []),  # left to the shell, which knows files
        ("llm-distill stages toy_m", ["toy_map", "toy_measure"]),
        ("llm-distill status ", ["toy"]),
        ("llm-distill status toy/", ["toy/20260101-000000", "toy/20260102-000000"]),
        ("llm-distill push toy a", ["answers"]),
        ("llm-distill push toy/20260101-000000 a", []),  # a record that cannot be read
    ],
)
def test_offered(line: str, expected: list[str], folder: Path) -> None:
    place = str(len(line.split(" ")) - 1)
    asked = {"COMP_WORDS": line, "COMP_CWORD": place, "_LLM_DISTILL_COMPLETE": "complete_bash"}
    environment = {**os.environ, **asked}
    done = subprocess.run(CLI, cwd=folder, env=environment, capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (expected, "")


def test_stages_as_json(folder: Path) -> None:
    listed = json.loads(llm_distill("stages", "--json", cwd=folder).stdout)["stages"]
    by_name = {each["stage"]: each for each in listed}
    assert by_name["train_sft"]["gives"] == "model"
    settings = {each["name"]: each for each in by_name["generate"]["settings"]}
    assert settings["rows"] == {
        "name": "rows",
        "type": "a stage's rows",
        "required": True,
        "default": None,
        "about": "the stage whose rows are asked about",
        "affects_result": True,
    }
    assert settings["sampling.max_tokens"]["default"] == 256
    assert settings["optional"]["affects_result"] is False
    (one,) = json.loads(llm_distill("stages", "toy_map", "--json", cwd=folder).stdout)["stages"]
    assert one["stage"] == "toy_map"
    wrong = llm_distill("stages", "toy_mop", "--json", cwd=folder)
    assert (wrong.returncode, wrong.stdout) == (2, "")


def test_the_schema_has_plugins_unless_own_is_wanted(folder: Path) -> None:
    done = llm_distill("schema", "--out", "schema.json", cwd=folder)
    assert done.stdout.endswith("# yaml-language-server: $schema=schema.json\n")
    assert '"toy_map"' in (folder / "schema.json").read_text()
    again = llm_distill("schema", "--own", "--out", "schema.json", cwd=folder)
    assert again.returncode == 0
    text = (folder / "schema.json").read_text()
    assert '"toy_map"' not in text
    assert llm_distill("schema", "--own", cwd=folder).stdout == text
    wrong = llm_distill("schema", "--out", "toy.yaml", cwd=folder)
    assert wrong.returncode == 2
    assert (folder / "toy.yaml").read_text().startswith(TOY)
