"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

File = Annotated[str, typer.Argument(help="Pipeline file, such as pipelines/arte.yaml.")]
Profile = Annotated[str | None, typer.Option(help="A profile of the file, merged over it.")]
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
Run = Annotated[
    str, typer.Argument(help="A pipeline's name (its newest run), name/time, or the run's folder.")
]
StageName = Annotated[str, typer.Argument(help="The stage.")]
Until = Annotated[str | None, typer.Option(help="Stop after this stage.")]
From = Annotated[
    str | None, typer.Option("--from", help="Start here; everything before must be reusable.")
]
Force = Annotated[
    list[str] | None,
    typer.Option(help="Run this stage and what depends on it again. Repeatable."),
]
RetryFailed = Annotated[
    bool,
    typer.Option(
        "--retry-failed", help="Run again the stages for which a server failed to answer."
    ),
]
DEFAULT_WORKSPACE = Path("data")
