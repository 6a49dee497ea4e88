"""`llm-distill slurm`: a job script that runs a pipeline on nodes of a Slurm cluster.

Every node starts Ray, the first one the run: copies of an engine and trainings of several machines
find the others through it. A job that is stopped or preempted goes on where it was when it is run
again.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from llm_distill.errors import ConfigError
from llm_distill.pipeline.load import load_pipeline
from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.training.settings import LaunchedSettings

OF_A_NODE = ("/tmp", "/var/tmp", "/dev/shm", "/scratch/local")
"""Folders that nodes seldom share."""
SECONDS_TO_STOP = 120
"""From the signal to stop until a job is killed: a run keeps what it has by then."""


def slurm_command(
    file: str,
    profile: str | None,
    assignments: Sequence[str],
    *,
    nodes: int,
    gpus_per_node: int,
    time: str | None,
    partition: str | None,
    others: Sequence[str],
    root: Path,
) -> None:
    """Print the script, for `sbatch`. The file is checked first: a job may wait for hours.

    others: any other options of sbatch, such as `--account=me`.

    Raises:
        ConfigError: the file is wrong, or wants more machines than there are nodes.
    """
    pipeline = load_pipeline(file, profile=profile, assignments=assignments)
    _check_machines(pipeline, nodes)
    workspace = root.expanduser().absolute()
    if any(workspace.is_relative_to(folder) for folder in OF_A_NODE):
        print(
            f"warning: {workspace} is in a folder that nodes seldom share, and a job that is run "
            "again may come to another node; set --workspace to one on a shared file system",
            file=sys.stderr,
        )
    run = _run(file, profile, assignments, workspace)
    print(script(pipeline, run, nodes, gpus_per_node, _options(time, partition, others)))


def script(
    pipeline: PipelineConfig, run: Sequence[str], nodes: int, gpus: int, options: Sequence[str]
) -> str:
    """The text of the job script. run: the command that one node carries out."""
    lines = [
        "#!/bin/bash",
        f"#SBATCH --job-name={pipeline.name}",
        f"#SBATCH --nodes={nodes}",
        "#SBATCH --ntasks-per-node=1",
        *([f"#SBATCH --gpus-per-node={gpus}"] if gpus else []),
        *(f"#SBATCH {option}" for option in options),
        "#SBATCH --requeue",
        "#SBATCH --open-mode=append",
        f"#SBATCH --signal=TERM@{SECONDS_TO_STOP}",
        "",
        "set -euo pipefail",
        f"cd {shlex.quote(str(Path.cwd()))}",
        f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH",
        "",
    ]
    if nodes == 1:
        return "\n".join([*lines, f"srun {shlex.join(run)}"])
    return "\n".join(
        [
            *lines,
            "# A token in the home directory, which the nodes share, keeps others off the cluster.",
            "export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0",
            "ray get-auth-token --generate > /dev/null",
            'nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")',
            "head=${nodes%%$'\\n'*}",  # no pipe, which would end the job where it breaks early
            "port=$((20000 + SLURM_JOB_ID % 10000))",
            "",
            "# Starts Ray on every node, and the run on the first.",
            'srun ray symmetric-run --address "$head:$port" --min-nodes "$SLURM_JOB_NUM_NODES" '
            f"--num-gpus={gpus} -- \\",
            f"    env RAY_ADDRESS=auto {shlex.join(run)}",
        ]
    )


def _run(file: str, profile: str | None, assignments: Sequence[str], workspace: Path) -> list[str]:
    command = ["llm-distill", "run", file, "--workspace", str(workspace)]
    command += ["--profile", profile] if profile else []
    return command + [word for text in assignments for word in ("--set", text)]


def _options(time: str | None, partition: str | None, others: Sequence[str]) -> list[str]:
    named = (("time", time), ("partition", partition))
    for option in others:
        if not option.startswith("-") or "\n" in option:
            raise ConfigError(f"--sbatch {option}: expected an option of sbatch: --account=NAME")
    return [f"--{name}={value}" for name, value in named if value] + list(others)


def _check_machines(pipeline: PipelineConfig, nodes: int) -> None:
    for name, stage in pipeline.stages.items():
        wanted = stage.launch.machines if isinstance(stage, LaunchedSettings) else 1
        if wanted > nodes:
            raise ConfigError(
                f"{pipeline.source}: stages.{name}.launch.machines is {wanted}, and the job has "
                f"--nodes {nodes}; raise that, or lower the setting"
            )
