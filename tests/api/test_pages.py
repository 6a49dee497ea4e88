"""What the docs show of Python runs as they say: without a guard, from stdin, and in a notebook."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

DOCS = Path(__file__).parents[2] / "docs"
SMALL = {
    "split: test}": "split: seeds}",
    "n: 100,": "n: 16,",
    "num_train_epochs: 3": "max_steps: 2",
}
"""What is changed so that a test takes seconds."""


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def small(text: str) -> str:
    for written, less in SMALL.items():
        assert text.count(written) == 1
        text = text.replace(written, less)
    return text


def shown(output: Any) -> str:
    """What a cell prints, or its value."""
    text: str = (
        output["text"] if output["output_type"] == "stream" else output["data"]["text/plain"]
    )
    return text


@pytest.mark.slow
def test_the_page_as_a_script_on_standard_input(tmp_path: Path) -> None:
    """Without a guard; the last block of the tutorial goes on from there."""
    (file,) = blocks("tutorial.md", "yaml")
    (tmp_path / "first.yaml").write_text(small(file))
    script = [*blocks("python.md", "python"), *blocks("tutorial.md", "python")]
    script += ["print('the model', run['student'].path, sep='=')"]
    done = subprocess.run(
        [sys.executable, "-"],
        input="\n".join(script),
        cwd=tmp_path,
        env={**os.environ, "LLM_DISTILL_WORKSPACE": "out"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (mistake,) = blocks("python.md", "text")
    for said in (
        mistake,
        "run    questions  (upstream train will run)",
        "✓ taught: train loss",
        "accuracy student 0.",
        "difference taught ",
        "  questions: reused, 24 rows",
        "the model=",
    ):
        assert said in done.stdout
    assert done.stdout.count("✓ train:") == 1  # a worker did not begin again
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("LLM_DISTILL_WORKSPACE", str(tmp_path / "out"))
    notebook = nbformat.read(DOCS / "tutorial.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)  # kept without outputs
    (page,) = blocks("tutorial.md", "yaml")
    written = re.search(r'write_text\("""\\\n(.*?)"""\)', cells[0].source, re.DOTALL)
    assert written
    assert yaml.safe_load(written.group(1).replace("\\\\n", "\\n")) == yaml.safe_load(page)
    cells[0].source = small(cells[0].source)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
    said = ["".join(map(shown, cell.outputs)) for cell in cells]
    assert "<pipeline first: 6 stages, first.yaml>" in said[0]
    assert "did you mean 'taught'?" in said[2]
    assert "✓ exam: 48 rows" in said[3]
    assert "['taught', 'exam']" in said[-1]
