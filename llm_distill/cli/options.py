"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llm_distill.cli.complete import pipeline_files, profiles, runs, stages_of_file, stages_of_run
from llm_distill.hints import DEFAULT_WORKSPACE as DEFAULT_WORKSPACE

File = Annotated[
    str,
    typer.Argument(
        help="Pipeline file, such as pipelines/arte.yaml.", autocompletion=pipeline_files
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(help="A profile of the file, merged over it.", autocompletion=profiles),
]
Run = Annotated[
    str,
    typer.Argument(
        help="A pipeline's name (its newest finished run, a sweep's aside), name/time, or folder.",
        autocompletion=runs,
    ),
]
NewestRun = Annotated[
    str | None,
    typer.Argument(help="A pipeline's name, or name/time.", autocompletion=runs),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Override a value: stages.x.n=5. Repeatable.", metavar="PLACE=VALUE"
    ),
]


def path_of(name: str | Path) -> Path:
    """An empty name, such as that of a variable that is not set, would be the current folder."""
    if not str(name).strip():
        raise typer.BadParameter("the name is empty; write . for the current folder")
    return Path(name)


WorkspaceDir = Annotated[
    Path,
    typer.Option(
        "--workspace",
        help="Holds artifacts and runs.",
        envvar="LLM_DISTILL_WORKSPACE",
        parser=path_of,
        metavar="DIR",
    ),
]
StageName = Annotated[str | None, typer.Argument(help="The stage.", autocompletion=stages_of_run)]
StudentName = Annotated[
    str | None,
    typer.Argument(
        help="The stage that trained the model, or a name under models:. Unless given, the last "
        "trained model that the last exam names.",
        autocompletion=stages_of_run,
    ),
]
Until = Annotated[
    str | None, typer.Option(help="Stop after this stage.", autocompletion=stages_of_file)
]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        help="Start here; everything before must be reusable.",
        autocompletion=stages_of_file,
    ),
]
Force = Annotated[
    list[str] | None,
    typer.Option(
        help="Run this stage and what depends on it again. Repeatable.",
        autocompletion=stages_of_file,
    ),
]
RetryFailed = Annotated[
    bool,
    typer.Option(
        "--retry-failed", help="Run again the stages for which a server failed to answer."
    ),
]
MaxCost = Annotated[
    float | None,
    typer.Option(
        "--max-cost",
        help="Stop before servers charge more than this in all, by their price.",
        min=0,
        metavar="AMOUNT",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON, for other programs.")]
