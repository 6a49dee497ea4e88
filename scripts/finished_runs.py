"""The runs of a pipeline by seed, for scripts that look into artifacts; nothing is mixed."""

from __future__ import annotations

from pathlib import Path

from llm_distill.errors import LLMDistillError
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.record import read_run
from llm_distill.sweeps.existing import sweep_of_runs


def finished_runs(
    workspace: Path, pipeline: str, profile: str | None, seeds: list[int] | None = None
) -> dict[int, dict[str, Path]]:
    """{seed: {stage: its artifact}} of finished runs that differ in their seed only.

    profile: None for runs without one. Prints which runs are left out, and why.

    Raises:
        SystemExit: there is none, or they differ in more than the seed.
    """
    place = Workspace(workspace)
    try:
        file, left_out = sweep_of_runs([pipeline], place, seeds or (), profile or "")
    except LLMDistillError as error:
        raise SystemExit(f"error: {error}") from error
    for line in left_out:
        print(f"left out: {line}")
    if file.places:
        raise SystemExit(
            f"the runs of {pipeline} in {workspace} differ in {', '.join(file.places)}; use a "
            "workspace with those of one setting"
        )
    found = {}
    for outcome in file.done():
        stages = read_run(place, outcome.run).stages
        found[outcome.seed] = {
            name: place.path(stage.artifact) for name, stage in stages.items() if stage.artifact
        }
    return found
