"""Commands that show what a run gave, and push it.

Nothing heavy is imported at the top: `--help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llm_distill.cli.complete import runs as complete_runs
from llm_distill.cli.complete import stages_of_run
from llm_distill.cli.options import DEFAULT_WORKSPACE, NewestRun, Run, WorkspaceDir, path_of
from llm_distill.rows.conversation_forms import Form


def status(
    run: NewestRun = None,
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
) -> None:
    """Show a run's stages: state, rows, dropped, tokens, seconds. The newest run by default."""
    from llm_distill.cli.run import status_command

    status_command(run, workspace)


def push(
    run: Run,
    stage: Annotated[
        str,
        typer.Argument(
            help="The stage whose rows or model are pushed.", autocompletion=stages_of_run
        ),
    ],
    repo_id: Annotated[
        str, typer.Option("--repo-id", help="The repository.", metavar="OWNER/NAME")
    ],
    public: Annotated[
        bool, typer.Option("--public", help="Make a new repository public, not private.")
    ] = False,
    license_id: Annotated[
        str | None, typer.Option("--license", help="The card's license.", metavar="ID")
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="A branch, made if there is none.", metavar="BRANCH")
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Merge an adapter into its base first.")
    ] = False,
    conversation_form: Annotated[
        Form | None, typer.Option(help="Write the conversations of rows in this form.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the files and the card; push nothing.")
    ] = False,
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
) -> None:
    """Push a stage's rows or model to the Hugging Face Hub, with a card."""
    from llm_distill.cli.push import push_command

    push_command(
        run,
        stage,
        repo_id,
        workspace,
        public=public,
        license_id=license_id,
        merge=merge,
        dry_run=dry_run,
        revision=revision,
        conversation_form=conversation_form,
    )


def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            help="A pipeline's name (its newest run), or name/time.",
            metavar="[RUN]...",
            autocompletion=complete_runs,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="The file; report.html in the run's folder by default, "
            "compared.html beside the runs' folders for several.",
            parser=path_of,
            metavar="FILE",
        ),
    ] = None,
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
) -> None:
    """Write a run's report, one HTML file, and name it. The newest run by default.

    Of several runs one page: their results side by side, and what differs.
    """
    from llm_distill.cli.run import report_command

    report_command(runs or (), workspace, output)


def compare(
    run_a: Run,
    run_b: Annotated[str, typer.Argument(help="The other run.", autocompletion=complete_runs)],
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
) -> None:
    """Show what differs between two runs: settings, stages, results."""
    from llm_distill.cli.compare import compare_command

    compare_command(run_a, run_b, workspace)
