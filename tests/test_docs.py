"""What the documentation shows is executed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from llm_distill.methods.skill_list import read_skill_list
from llm_distill.pipeline.load import load_pipeline

DOCS = Path(__file__).parents[1] / "docs"


def _block(page: str, language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert found
    return found.group(1)


def test_repeat(tmp_path: Path) -> None:
    from llm_distill.pipeline.load import load_pipeline

    (tmp_path / "rounds.yaml").write_text(_block("repeat.md", "yaml"))
    stages = load_pipeline(str(tmp_path / "rounds.yaml")).stages
    assert list(stages)[2:4] == ["drawn@1", "texts@1"]
    assert list(stages)[-2:] == ["trained@3", "exam"]


def test_add_a_stage(tmp_path: Path) -> None:
    """The example as a third party's package: a module and an entry point, both on the path."""
    package = tmp_path / "site" / "my_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "keep_short.py").write_text(_block("add-a-stage.md", "python"))
    info = tmp_path / "site" / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    toml = _block("add-a-stage.md", "toml")
    entry = toml.split("\n", 1)[1].replace('"', "")
    (info / "entry_points.txt").write_text(f"[llm_distill.stages]\n{entry}")
    (tmp_path / "short.yaml").write_text(_block("add-a-stage.md", "yaml"))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-m", "llm_distill", "run", "short.yaml", "--workspace", "out"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"short: \d+ rows, dropped \d+ \(too long: \d+\)", done.stdout)
    shown = subprocess.run(
        [sys.executable, "-m", "llm_distill", "stages", "keep_short"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "max_words" in shown.stdout


def test_skills(tmp_path: Path) -> None:
    """The pipeline is valid, and the list can be read."""
    (tmp_path / "skills_page.yaml").write_text(_block("skills.md", "yaml"))
    assert list(load_pipeline(str(tmp_path / "skills_page.yaml")).stages)[-1] == "labelled_train"
    blocks = re.findall(r"```yaml\n(.*?)```", (DOCS / "skills.md").read_text(), re.DOTALL)
    assert read_skill_list(blocks[-1], "x") == {
        "word_problems": ["addition", "subtraction", "making_change"]
    }
