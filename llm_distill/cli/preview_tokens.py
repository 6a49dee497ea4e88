"""`llm-distill preview`: rows as a training reads them, with the tokens of the loss marked."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.text import Text

from llm_distill.cli.display import console
from llm_distill.errors import ConfigError, WorkspaceError, counted, nearest
from llm_distill.hints import Given
from llm_distill.pipeline.load import load_pipeline
from llm_distill.rows.unusable import UnusableRowError
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.plan import Selection, plan
from llm_distill.runtime.resolve import Resolver
from llm_distill.runtime.writer import read_rows
from llm_distill.training.data import Labelled

MOST_ROWS = 1000
"""Rows that are read to find some that can be trained on."""


def preview_tokens(
    file: str,
    profile: str | None,
    assignments: Sequence[str],
    *,
    stage: str,
    n: int,
    root: Path,
) -> None:
    """Print the first `n` rows of a training stage that can be trained on, and why others cannot.

    Raises:
        ConfigError: there is no such stage, or it trains on no tokens.
        WorkspaceError: the rows, or the model that it starts from, are not there yet.
    """
    pipeline = load_pipeline(file, profile=profile, assignments=assignments)
    if stage not in pipeline.stages:
        raise ConfigError(f"--tokens {stage}: {pipeline.why_no_stage(stage)}")
    settings: Any = pipeline.stages[stage]
    if not hasattr(settings, "labelled"):
        able = [name for name, each in pipeline.stages.items() if hasattr(each, "labelled")]
        raise ConfigError(f"--tokens {stage}: it trains on no tokens; {nearest(stage, able)}")
    workspace = Workspace(root)
    given = Given(file, profile, assignments, str(root))
    resolver = Resolver(pipeline, lambda: workspace.first_run(pipeline.name, note=False))
    for decision in plan(pipeline, workspace, Selection(until=stage)):
        if decision.artifact is not None:
            resolver.ready[decision.name] = decision.artifact
    for needed in (settings.rows, settings.model):
        if needed in pipeline.stages and needed not in resolver.ready:
            raise WorkspaceError(
                f"stage '{needed}' has not run in {workspace.root}; to run it: "
                + given.command("run", "--until", needed, of_file=True)
            )
    examples = settings.labelled(resolver.model(settings.model))
    out = console()
    refused: dict[str, list[str]] = {}
    shown = 0
    for row in islice(read_rows(resolver.ready[settings.rows].path), MOST_ROWS):
        if shown == n:
            break
        try:
            found: list[Labelled] = examples(row)
        except UnusableRowError as error:
            refused.setdefault(str(error), []).append(row["id"])
            continue
        shown += 1
        for example in found:
            total = counted(sum(size for _, _, size in example), "token")
            trained = sum(size for _, in_loss, size in example if in_loss)
            out.print(f"[bold]{escape(row['id'])}[/bold]: {total}, {trained:,} in the loss")
            out.print(_marked(example, out.is_terminal))
    for reason, rows in refused.items():
        out.print(f"left out: {len(rows)}, the first '{rows[0]}': {reason}", markup=False)


def _marked(example: Labelled, in_colour: bool) -> Text:
    """The text, what is in the loss in green, or between « and » where there are no colours."""
    text = Text()
    for piece, in_loss, _ in example:
        if in_colour:
            text.append(piece, style="green" if in_loss else "dim")
        else:
            text.append(f"«{piece}»" if in_loss else piece)
    return text
