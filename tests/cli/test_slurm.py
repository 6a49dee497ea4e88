"""The job script is one that a shell reads, and runs the pipeline on the first node."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.test_cli import llm_distill

TOY = """
name: toy
stages:
  rows: {stage: load_dataset, path: rows.jsonl}
"""
STUBS = {
    "srun": 'exec "$@"',
    "scontrol": "echo node1; echo node2",
    "ray": 'echo "ray $*" >> asked; while [ $# -gt 0 ] && [ "$1" != -- ]; do shift; done; '
    'if [ $# -gt 0 ]; then shift; exec "$@"; fi',
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "toy.yaml").write_text(TOY)
    (tmp_path / "rows.jsonl").write_text('{"question": "2 + 2?"}\n')
    (tmp_path / "bin").mkdir()
    for name, text in STUBS.items():
        file = tmp_path / "bin" / name
        file.write_text(f"#!/bin/bash\n{text}\n")
        file.chmod(0o755)
    return tmp_path


def run_job(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """As Slurm would start it, with stubs in the place of its commands and of Ray's."""
    first = f'export PATH="{folder}/bin:$PATH"'
    lines = [f"{line}\n{first}" if "export PATH" in line else line for line in script.splitlines()]
    of_job = {"SLURM_JOB_ID": "41", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "node[1-2]"}
    environment = {**os.environ, **of_job}
    return subprocess.run(
        ["bash", "-c", "\n".join(lines)], env=environment, text=True, capture_output=True
    )


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_job_runs_the_pipeline(folder: Path, nodes: int) -> None:
    workspace = folder / "a workspace"
    asked = ("slurm", "toy.yaml", "--nodes", str(nodes), "--time", "2:00:00")
    more = ("--sbatch", "--account=me", "--workspace", str(workspace), "--set", "seed=3")
    made = llm_distill(*asked, *more, cwd=folder)
    assert made.returncode == 0, made.stderr
    assert f"#SBATCH --nodes={nodes}\n" in made.stdout
    for option in ("--time=2:00:00", "--account=me", "--requeue", "--gpus-per-node=8"):
        assert f"#SBATCH {option}\n" in made.stdout
    done = run_job(made.stdout, folder)
    assert done.returncode == 0, done.stderr
    assert "rows: 1 row" in done.stdout
    assert list((workspace / "runs" / "toy").iterdir())
    if nodes == 2:
        started = (folder / "asked").read_text()
        assert "ray symmetric-run --address node1:20041 --min-nodes 2 --num-gpus=8 -- " in started
        assert "RAY_ADDRESS=auto llm-distill run toy.yaml" in started


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "stages.rows.pth=x"], "unknown setting 'pth'"),
        (["--sbatch", "account=me"], "expected an option of sbatch"),
    ],
)
def test_a_job_that_would_fail_is_not_written(folder: Path, options, message) -> None:
    made = llm_distill("slurm", "toy.yaml", *options, cwd=folder)
    assert made.returncode == 2
    assert message in made.stderr
    assert "#SBATCH" not in made.stdout


def test_fewer_nodes_than_a_training_wants_are_refused(folder: Path) -> None:
    training = "  student: {stage: train_sft, rows: rows, model: m, train_batch_size: 6,\n"
    training += "    launch: {machines: 3}}"
    model = "models: {m: {model_name_or_path: data/models/tiny-student, prompt_format: text}}"
    rows = '{"prompt": "2 + 2?", "completion": "4"}\n'
    (folder / "rows.jsonl").write_text(rows)
    (folder / "toy.yaml").write_text(f"{TOY}{training}\n{model}\n")
    made = llm_distill("slurm", "toy.yaml", "--nodes", "2", cwd=folder)
    assert "stages.student.launch.machines is 3, and the job has --nodes 2" in made.stderr


def test_a_workspace_of_one_node_is_told(folder: Path) -> None:
    made = llm_distill("slurm", "toy.yaml", "--workspace", "/tmp/of-this-node", cwd=folder)
    assert "nodes seldom share" in made.stderr
    assert made.stdout.startswith("#!/bin/bash\n")
