"""Commands for runs that are large: tried without their models, and given to a cluster.

Nothing heavy is imported at the top: `--help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llm_distill.cli.options import (
    DEFAULT_WORKSPACE,
    AsJson,
    File,
    Profile,
    Sets,
    WorkspaceDir,
    path_of,
)


def rehearse(
    file: File,
    profile: Profile = None,
    assignments: Sets = None,
    rows: Annotated[
        list[str] | None,
        typer.Option(
            help="How many rows a dataset has: org/name:train=10000. Repeatable.",
            metavar="DATASET=N",
        ),
    ] = None,
    max_steps: Annotated[
        int | None,
        typer.Option(
            help="Each training takes this many steps, and not as many as it is written to.", min=1
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder",
            "--workspace",
            help="Where it is kept, and gone on with; unless given it is thrown away.",
            parser=path_of,
            metavar="DIR",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Walk a pipeline with stand-ins for its models and datasets, and every count as written."""
    from llm_distill.cli.rehearse import rehearse_command

    given = file, profile, assignments or []
    rehearse_command(*given, rows=rows or [], max_steps=max_steps, folder=folder, as_json=as_json)


def slurm(
    file: File,
    profile: Profile = None,
    assignments: Sets = None,
    nodes: Annotated[int, typer.Option(help="Nodes of the job.", min=1)] = 1,
    gpus_per_node: Annotated[int, typer.Option(help="GPUs of each node.", min=0)] = 8,
    time: Annotated[str | None, typer.Option(help="As sbatch has it: 12:00:00.")] = None,
    partition: Annotated[str | None, typer.Option(help="Of the cluster.")] = None,
    others: Annotated[
        list[str] | None,
        typer.Option("--sbatch", help="Any other option of sbatch: --account=me. Repeatable."),
    ] = None,
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
) -> None:
    """Print a Slurm job script that runs a pipeline: llm-distill slurm FILE | sbatch."""
    from llm_distill.cli.slurm import slurm_command

    slurm_command(
        file,
        profile,
        assignments or [],
        nodes=nodes,
        gpus_per_node=gpus_per_node,
        time=time,
        partition=partition,
        others=others or [],
        root=workspace,
    )
