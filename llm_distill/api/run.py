"""`ld.run` and `ld.plan`: as the commands, with plain values in place of tables."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llm_distill.api.display import ProgressShown, display_for, quiet_environment, quiet_libraries
from llm_distill.api.runs import Run, workspace_at
from llm_distill.api.settings import load
from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.runtime.plan import Selection
from llm_distill.runtime.planned import planned
from llm_distill.runtime.runner import run_pipeline

if TYPE_CHECKING:
    from pandas import DataFrame

Pipeline = PipelineConfig | str | os.PathLike[str]
"""A pipeline from `load`, or a file without a profile and overrides."""


def run(
    pipeline: Pipeline,
    *,
    from_: str | None = None,
    until: str | None = None,
    force: str | Sequence[str] = (),
    retry_failed: bool = False,
    max_cost: float | None = None,
    workspace: str | os.PathLike[str] | None = None,
    progress: ProgressShown = "stages",
) -> Run:
    """Run a pipeline; what is already done is reused.

    Args:
        pipeline: From `load`, or a file.
        from_: Start at this stage; everything before must be reusable.
        until: Stop after this stage.
        force: Stages to run again, with what depends on them.
        retry_failed: Run again the stages for which a server failed to answer.
        max_cost: Stop before servers charge more than this, by their price.
        workspace: The folder that holds artifacts and runs; unless given, that of the variable
            `LLM_DISTILL_WORKSPACE`, or else `data`.
        progress: What is printed: "stages" a line when a stage begins and one when it is done,
            "bars" what the command prints (bars on a terminal, lines in a notebook), "none"
            nothing.

    Returns:
        The run: `run["exam"].results`, `run["tailored_data"].dataset`.

    Raises:
        LLMDistillError: It cannot succeed, and nothing is begun, or a stage failed; what is
            finished is kept, and the same call goes on from there.
    """
    checked = _checked(pipeline)
    place = workspace_at(workspace)
    display = display_for(progress)
    try:
        with quiet_libraries(), display:
            selection = _selection(from_, until, force, retry_failed)
            record = run_pipeline(checked, place, selection, display, max_cost)
    except BaseException as error:
        if display.record is not None:
            error.add_note(
                f"What is finished is kept, and the same call goes on from there; the logs: "
                f"{display.record.directory / 'logs'}"
            )
        raise
    return Run(record, place)


@dataclass(frozen=True, repr=False)
class Plan:
    """What `run` would do now.

    Attributes:
        stages: A mapping for each stage, with the keys of `llm-distill plan --json`.
        total: The most that the run takes, in all.
        problems: What would stop it for certain.
        warnings: What makes it unlikely to succeed.
        ended: For each `repeat` with `until` that has ended: its last and best round, and why.
    """

    stages: list[dict[str, Any]]
    total: dict[str, Any]
    ended: dict[str, dict[str, Any]]
    problems: list[str]
    warnings: list[str]

    @property
    def to_run(self) -> list[str]:
        """The stages that would not be reused."""
        return [stage["stage"] for stage in self.stages if stage["action"] == "run"]

    def to_pandas(self) -> DataFrame:
        """A row for each stage."""
        from pandas import DataFrame

        return DataFrame(self.stages)

    def __repr__(self) -> str:
        lines = [f"{s['action']:<5}  {s['stage']}  ({s['why']})" for s in self.stages]
        stops = [f"problem: {problem}" for problem in self.problems]
        return "\n".join([*lines, *stops, *(f"warning: {text}" for text in self.warnings)])


def plan(
    pipeline: Pipeline,
    *,
    from_: str | None = None,
    until: str | None = None,
    force: str | Sequence[str] = (),
    retry_failed: bool = False,
    workspace: str | os.PathLike[str] | None = None,
) -> Plan:
    """For each stage whether it would be reused or run, why, and what it takes. Runs nothing.

    The arguments are those of `run`.

    Raises:
        ConfigError: The file is wrong, or there is no stage of a name. What would stop a run is
            not raised: it is in the plan's `problems`.
    """
    checked = _checked(pipeline)
    selection = _selection(from_, until, force, retry_failed)
    with quiet_environment():
        values = planned(checked, workspace_at(workspace), selection).as_json()
    return Plan(**values)


def _checked(pipeline: Pipeline) -> PipelineConfig:
    return pipeline if isinstance(pipeline, PipelineConfig) else load(pipeline)


def _selection(
    from_: str | None, until: str | None, force: str | Sequence[str], retry_failed: bool
) -> Selection:
    forced = (force,) if isinstance(force, str) else tuple(force)
    return Selection(from_, until, forced, retry_failed)
