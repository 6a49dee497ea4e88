"""`llm-distill sweep`: its options. Nothing heavy is imported at the top: `--help` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llm_distill.cli.options import (
    DEFAULT_WORKSPACE,
    AsJson,
    MaxCost,
    Profile,
    RetryFailed,
    WorkspaceDir,
    path_of,
)


def sweep(
    file: Annotated[
        str | None, typer.Argument(help="Pipeline file, such as pipelines/arte.yaml.")
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(help="1..5, or 1,2,7; the file's own by default.", metavar="SEEDS"),
    ] = None,
    axes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Values to go through: stages.x.n=1,2; a list is one value: [a, b]. Repeatable.",
            metavar="PLACE=V1,V2",
        ),
    ] = None,
    profile: Profile = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            help="What to compare with: a model, a setting (PLACE=VALUE), or both; by default the "
            "first model of each exam.",
            metavar="NAME",
        ),
    ] = None,
    stage: Annotated[
        list[str] | None,
        typer.Option(help="Figures of this stage only. Repeatable.", metavar="NAME"),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            help="Items with one of these values only. Repeatable.", metavar="COLUMN=V1,V2"
        ),
    ] = None,
    only_plan: Annotated[
        bool, typer.Option("--plan", help="List the runs and what each would run; run nothing.")
    ] = False,
    from_files: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            help="Show the figures of this sweep.json, without a workspace; of several, together.",
            parser=path_of,
            metavar="FILE",
        ),
    ] = None,
    runs: Annotated[
        list[str] | None,
        typer.Option(
            help="Show the figures of runs that there are: a pipeline's name, or name/time.",
            metavar="RUN",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="The sweep's file, gone on with if it is there; in the workspace by default.",
            parser=path_of,
            metavar="FILE",
        ),
    ] = None,
    max_cost: MaxCost = None,
    retry_failed: RetryFailed = False,
    as_json: AsJson = False,
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
) -> None:
    """Run a pipeline over seeds and settings; means with intervals, and differences."""
    from llm_distill.cli.sweep_command import Shown, show_files, show_runs, sweep_command
    from llm_distill.errors import ConfigError

    shown = Shown(baseline or [], stage or [], where or [], output, workspace, as_json)
    given = [
        name for name, value in (("FILE", file), ("--from", from_files), ("--runs", runs)) if value
    ]
    if len(given) != 1:
        what = f"{' and '.join(given)} are given" if given else "nothing is given"
        raise ConfigError(f"sweep: give one of FILE, --from and --runs; {what}")
    if file is None:
        for name, value in (("--set", axes), ("--plan", only_plan), ("--max-cost", max_cost)):
            if value:
                raise ConfigError(f"sweep: {name} goes with FILE, and {given[0]} runs nothing")
    if file is not None:
        sweep_command(
            file,
            profile,
            axes or [],
            seeds,
            shown,
            only_plan=only_plan,
            max_cost=max_cost,
            retry_failed=retry_failed,
        )
    elif from_files:
        show_files(from_files, seeds, shown)
    else:
        show_runs(runs or [], profile, seeds, shown)
