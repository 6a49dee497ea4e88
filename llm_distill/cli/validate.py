"""`llm-distill validate`: everything that is wrong with a file, and with `--deep` what it names.

Nothing heavy is imported at the top: `--help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llm_distill.cli.options import DEFAULT_WORKSPACE, File, Profile, Sets, WorkspaceDir
from llm_distill.errors import counted

if TYPE_CHECKING:
    from llm_distill.pipeline.schema import PipelineConfig


def validate(
    file: File,
    profile: Profile = None,
    assignments: Sets = None,
    deep: Annotated[
        bool,
        typer.Option(
            "--deep",
            help="Also what a run would look at before it begins: models and tokenizers, servers, "
            "the first prompts of rows that are there, memory and disk.",
        ),
    ] = False,
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
) -> None:
    """Check a pipeline file and show everything that is wrong with it."""
    from llm_distill.pipeline.load import load_pipeline

    pipeline = load_pipeline(file, profile=profile, assignments=assignments or [])
    sure = deep and _look(pipeline, workspace)
    suffix = f", profile {profile}" if profile else ""
    depth = (
        ", and what it names can be used"
        if sure
        else "; not sure of all that it names, see above"
        if deep
        else ""
    )
    stages = counted(len(pipeline.stages), "stage")
    typer.echo(f"{pipeline.source}: valid{depth} ({stages}{suffix})")


def _look(pipeline: PipelineConfig, root: Path) -> bool:
    """What `run` would refuse, and what it would warn of.

    Returns:
        Whether all that it names was looked at, and there is nothing to warn of.

    Raises:
        LLMDistillError: with all that would stop it.
    """
    from llm_distill.cli.display import console, quiet_libraries, say
    from llm_distill.cli.run import show_before
    from llm_distill.pipeline.wording import quoted_names
    from llm_distill.runtime.artifact import Workspace
    from llm_distill.runtime.disk import disk_explained
    from llm_distill.runtime.plan import Selection, plan, planning
    from llm_distill.runtime.preflight import preflight
    from llm_distill.runtime.unusable import served_models

    quiet_libraries()
    out, workspace = console(), Workspace(root)
    show_before(out, pipeline)
    resolver = planning(pipeline, workspace)
    with disk_explained(workspace.root):
        decisions = list(plan(pipeline, workspace, Selection(), resolver=resolver))
        found = preflight(decisions, resolver, workspace, says=lambda message: say(message, out))
    for warning in found.warnings:
        say(warning, out)
    refused = found.error(pipeline)
    if refused is not None:
        raise refused
    to_run = [pipeline.stages[each.name] for each in decisions if each.action == "run"]
    all_served = served_models(pipeline, pipeline.stages.values())
    idle = [name for name in all_served if name not in served_models(pipeline, to_run)]
    if idle:
        say(
            f"the servers of {quoted_names(idle)} were not asked: all answers of theirs are there",
            out,
        )
    return not found.warnings and not idle
