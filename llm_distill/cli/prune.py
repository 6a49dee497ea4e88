"""`llm-distill prune`: its options. Nothing heavy is imported at the top: `--help` is quick."""

from __future__ import annotations

from typing import Annotated

import typer

from llm_distill.cli.options import DEFAULT_WORKSPACE, AsJson, WorkspaceDir


def prune(
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than",
            help="What no run has used for so long: 30d, 12h, 2w; a number alone means days.",
            metavar="AGE",
        ),
    ] = None,
    unused_by: Annotated[
        int | None,
        typer.Option(
            "--unused-by",
            help="What the newest N runs of each pipeline do not use.",
            metavar="N",
            min=1,
        ),
    ] = None,
    keep_size: Annotated[
        str | None,
        typer.Option(
            "--keep-size",
            help="Only what is above this size in all, least recently used first: 100GB, 500MB.",
            metavar="SIZE",
        ),
    ] = None,
    runs: Annotated[
        bool,
        typer.Option("--runs", help="The folders of runs too: record, settings, logs, report."),
    ] = False,
    even_needed: Annotated[
        bool,
        typer.Option("--even-needed", help="Also what the newest runs of pipelines need."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, only show.")] = False,
    as_json: AsJson = False,
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
) -> None:
    """Delete artifacts by age, use and size; shows what would go and what it took to make.

    What all given options say goes. Their runs still have their figures and reports.
    """
    from llm_distill.cli.prune_command import prune_command
    from llm_distill.errors import ConfigError
    from llm_distill.runtime.prune import Filters

    if older_than is None and unused_by is None and keep_size is None:
        raise ConfigError(
            "prune: say what to delete with --older-than AGE, --unused-by N or --keep-size SIZE"
        )
    from llm_distill.cli.prune_command import read_age, read_size

    filters = Filters(
        older_than=None if older_than is None else read_age(older_than),
        unused_by=unused_by,
        keep_size=None if keep_size is None else read_size(keep_size),
        runs=runs,
        even_needed=even_needed,
    )
    prune_command(workspace, filters, delete=yes, as_json=as_json)
