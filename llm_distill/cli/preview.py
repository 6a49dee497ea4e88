"""`llm-distill preview`: rows before a run, through the stages or as a training reads them.

Nothing heavy is imported at the top: `--help` answers at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from llm_distill.cli.complete import stages_of_file
from llm_distill.cli.options import DEFAULT_WORKSPACE, File, MaxCost, Profile, Sets, WorkspaceDir
from llm_distill.errors import ConfigError


def preview(
    file: File,
    stage: Annotated[
        str | None,
        typer.Option(
            "--stage",
            help="Only this stage and what it is made of; unless given, all before the first "
            "training.",
            autocompletion=stages_of_file,
        ),
    ] = None,
    tokens: Annotated[
        str | None,
        typer.Option(
            "--tokens",
            help="Instead: a training stage whose rows are shown as tokens.",
            autocompletion=stages_of_file,
        ),
    ] = None,
    n: Annotated[int, typer.Option("-n", help="How many rows.", min=1)] = 3,
    profile: Profile = None,
    assignments: Sets = None,
    max_cost: MaxCost = None,
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
) -> None:
    """Show the first rows of a pipeline, stage by stage, before a run is paid for.

    Trainings are passed over. With --tokens: rows as a training reads them, token by token, with
    those in the loss marked.
    """
    given = file, profile, assignments or []
    if tokens is not None:
        if stage is not None:
            raise ConfigError("--stage and --tokens: give one of them")
        from llm_distill.cli.preview_tokens import preview_tokens

        preview_tokens(*given, stage=tokens, n=n, root=workspace)
        return
    from llm_distill.cli.preview_rows import preview_rows

    preview_rows(*given, stage=stage, n=n, max_cost=max_cost, root=workspace)
