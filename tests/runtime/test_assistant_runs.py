"""A teacher assistant is a chain of stages: the shipped file, with few texts and steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FILE = "pipelines/classify_assistant.yaml"
TRAINED = ("teacher", "assistant", "direct", "assisted")


@pytest.mark.exhaustive  # ten stages, each with a process of its own
def test_the_student_learns_from_the_assistant(cli: Callable[..., Any], tmp_path: Path) -> None:
    few = ["pool.limit=24", "test.limit=8", *(f"{name}.max_steps=1" for name in TRAINED)]
    settings = [part for each in few for part in ("--set", f"stages.{each}")]
    said = cli("run", FILE, "--workspace", tmp_path, "--until", "assisted", *settings)
    assert said.code == 0, said.err
    made = {}
    for folder in (tmp_path / "artifacts").glob("[!.]*"):
        made[folder.name.rpartition("-")[0]] = json.loads((folder / "manifest.json").read_text())
    assert {name: {*made[name]["inputs"], *made[name]["models"]} for name in TRAINED} == {
        "teacher": {"pool", "encoder"},
        "assistant": {"teacher_says", "middle"},
        "direct": {"teacher_says", "small"},
        "assisted": {"assistant_says", "small"},
    }
    assert [*made["assistant_says"]["models"]] == ["assistant"]
    sizes = {name: made[name]["metrics"]["parameters"] for name in ("middle", "small")}
    whole = made["middle"]["metrics"]["parameters_before"]
    assert 3 * sizes["small"] < sizes["middle"] < whole / 2
    assert made["direct"]["metrics"]["steps"] == made["assisted"]["metrics"]["steps"] == 1
