"""Commands about texts: how two tokenizers cut them, and what models have written.

Nothing heavy is imported at the top: `--help` answers at once.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from llm_distill.cli.options import DEFAULT_WORKSPACE, WorkspaceDir


class PromptFormat(StrEnum):
    """How a model is prompted."""

    CHAT = "chat"
    TEXT = "text"


def align(
    teacher: Annotated[str, typer.Argument(help="A model's directory or its name on the Hub.")],
    student: Annotated[str, typer.Argument(help="The other model. No weights are read.")],
    file: Annotated[
        str,
        typer.Argument(
            help="A text, or a .jsonl of rows with prompt and completion, messages, or text."
        ),
    ],
    rows: Annotated[int, typer.Option(help="How many rows of a .jsonl are shown.", min=1)] = 3,
    teacher_format: Annotated[
        PromptFormat | None,
        typer.Option(help="The teacher's; chat where its tokenizer has a chat template."),
    ] = None,
    student_format: Annotated[
        PromptFormat | None, typer.Option(help="The student's, likewise.")
    ] = None,
) -> None:
    """Show how two models' tokens align on a text, and how much of it is in chunks."""
    from llm_distill.cli.align import align_command

    align_command((teacher, student), (teacher_format, student_format), file, rows)


cache = typer.Typer(help="What models have written: kept, and never paid for twice.")


@cache.command("stats")
def cache_stats(workspace: WorkspaceDir = DEFAULT_WORKSPACE) -> None:
    """Show what is kept of each model: completions, tokens, cost."""
    from llm_distill.cli.cache import stats_command

    stats_command(workspace)


@cache.command("prune")
def cache_prune(
    model: Annotated[
        str | None, typer.Option(help="Only this model's, named as `cache stats` does.")
    ] = None,
    older_than: Annotated[
        float | None,
        typer.Option("--older-than", help="Only what is older than this.", metavar="DAYS", min=0),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, only count.")] = False,
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
) -> None:
    """Delete completions that are no longer needed, and make the file smaller.

    With --older-than alone also what stopped stages left, such as a training's checkpoints.
    """
    from llm_distill.cli.cache import prune_command

    prune_command(workspace, model, older_than, delete=yes)


@cache.command("verify")
def cache_verify(
    repair: Annotated[
        bool, typer.Option("--repair", help="Set a damaged file aside and save what can be read.")
    ] = False,
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
) -> None:
    """Read and check everything that is kept."""
    from llm_distill.cli.cache import verify_command

    verify_command(workspace, repair=repair)
