"""What the shell offers for an argument that is being typed. Nothing here may fail or say a word.

Heavy imports are inside: `--help` imports this file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer


def pipeline_files(incomplete: str) -> list[str]:
    """The shipped files, where the shell itself finds none that begin so."""
    from llm_distill.paths import bundled_root

    here = Path(incomplete)
    if here.exists() or any(here.parent.glob(f"{here.name}*")):
        return []
    shipped = (f"pipelines/{path.name}" for path in (bundled_root() / "pipelines").glob("*.yaml"))
    return _beginning(incomplete, shipped)


def profiles(ctx: typer.Context, incomplete: str) -> list[str]:
    """The profiles of the file that stands before."""
    from llm_distill.errors import LLMDistillError
    from llm_distill.pipeline.load import profile_names

    try:
        return _beginning(incomplete, profile_names(_first(ctx, "file")))
    except LLMDistillError:
        return []


def stages_of_file(ctx: typer.Context, incomplete: str) -> list[str]:
    """The stages of the file that stands before, also if something in it is wrong."""
    from llm_distill.errors import LLMDistillError
    from llm_distill.pipeline.load import names_of_stages

    try:
        return _beginning(incomplete, names_of_stages(_first(ctx, "file")))
    except LLMDistillError:
        return []


def known_stages(incomplete: str) -> list[str]:
    """The kinds of stages."""
    from llm_distill.pipeline.registry import stage_names

    return _beginning(incomplete, stage_names())


def runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """The pipelines that were run in the workspace; after NAME/ the times of its runs."""
    folder = _workspace(ctx) / "runs"
    found = sorted(folder.glob("*/*/run.json"))
    names = dict.fromkeys(path.parent.parent.name for path in found)
    times = (f"{path.parent.parent.name}/{path.parent.name}" for path in found)
    return _beginning(incomplete, times if "/" in incomplete else names)


def stages_of_run(ctx: typer.Context, incomplete: str) -> list[str]:
    """The stages of the run that stands before, or of the newest one of that name."""
    folder = _workspace(ctx) / "runs" / _first(ctx, "run")
    found = [folder / "run.json", *sorted(folder.glob("*/run.json"), reverse=True)]
    try:
        record = json.loads(next(path for path in found if path.is_file()).read_bytes())
        return _beginning(incomplete, record["stages"])
    except (StopIteration, OSError, ValueError, KeyError, TypeError):
        return []


def _first(ctx: typer.Context, name: str) -> str:
    """The first argument; before an option without its value it is not among the parameters yet."""
    return str(ctx.params.get(name) or next(iter(ctx.args), ""))


def _workspace(ctx: typer.Context) -> Path:
    from llm_distill.cli.options import DEFAULT_WORKSPACE

    return Path(str(ctx.params.get("workspace") or DEFAULT_WORKSPACE))


def _beginning(incomplete: str, names: Any) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
