"""An installed llm-distill works outside the clone."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VALIDATE_ALL = """
import sys
from llm_distill.cli.main import app
for file in sys.argv[1:]:
    app(["validate", file], standalone_mode=False)
"""


@pytest.mark.slow
def test_the_wheel_carries_pipelines_prompts_and_data(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    environment = {**os.environ, "PYTHONPATH": str(site)}

    def python(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=elsewhere,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    found = python("-c", "import llm_distill.paths as p; print(p.bundled_root())").strip()
    assert found == str(site / "llm_distill" / "_bundled")
    files = [f"pipelines/{file.name}" for file in sorted((ROOT / "pipelines").glob("*.yaml"))]
    said = python("-c", VALIDATE_ALL, *files).splitlines()
    assert [line for line in said if "valid" not in line] == []
    assert len(said) == len(files)
    models = [f"--{each}=data/models/tiny-{each}" for each in ("teacher", "student")]
    start = ["init", "own", "--data", "data/word_problems", "--method", "arte", *models]
    assert "wrote own/own.yaml" in python("-m", "llm_distill", *start)
    assert "valid" in python("-m", "llm_distill", "validate", "own/own.yaml")
    run = ["-m", "llm_distill", "run", "pipelines/arte.yaml", "--until", "worked_examples"]
    ran = python(*run)
    assert "✓ worked_examples" in ran
    assert "\nreport: " in ran
