"""A run's record and its artifacts' manifests, as plain values.

Nothing here raises for what is missing. A run may have stopped halfway, and an artifact may have
been removed or damaged since: `problem` of the stage then says so, and the rest is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from llm_distill.errors import WorkspaceError
from llm_distill.evaluation.results import Results
from llm_distill.integrity import DamagedError
from llm_distill.manifest import Manifest
from llm_distill.pipeline.problems import Problems
from llm_distill.pipeline.registry import find_stage
from llm_distill.pipeline.repeat import unroll
from llm_distill.runtime.artifact import Artifact, Workspace
from llm_distill.runtime.pruned import find_pruned
from llm_distill.runtime.record import RunRecord, StageRecord, State
from llm_distill.stage import references

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class StageView:
    """A stage of the run.

    Attributes:
        kind: The value of `stage:`.
        inputs: Names of the stages that it refers to.
        manifest: The artifact's, of one that was pruned too; None without one.
        directory: The artifact's, if it can be read.
        problem: Why a finished stage's artifact cannot be read.
        stated: Its settings as the pipeline file has them.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    record: StageRecord
    manifest: Manifest | None = None
    directory: Path | None = None
    problem: str | None = None
    stated: Mapping[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> State:
        return self.record.state

    @cached_property
    def results(self) -> Results:
        return Results.from_metrics(self.manifest.metrics if self.manifest else {})

    @property
    def columns(self) -> frozenset[str]:
        return frozenset((self.manifest and self.manifest.features) or ())

    @property
    def seconds(self) -> float:
        """What the work took; of a reused stage when it was done, not when it was found again."""
        return (self.manifest and self.manifest.seconds) or self.record.seconds

    @property
    def tokens(self) -> int:
        """Tokens that models wrote for it, in this run or in the one that it is reused from."""
        return (self.manifest and self.manifest.tokens_out) or self.record.tokens

    @property
    def cost(self) -> float:
        return self.manifest.cost if self.manifest else 0.0


@dataclass(frozen=True)
class RunView:
    """A run. settings: the resolved pipeline file; settings_text: its text."""

    record: RunRecord
    stages: tuple[StageView, ...]
    settings: Mapping[str, Any]
    settings_text: str
    workspace: Workspace

    def stage(self, name: str) -> StageView | None:
        return next((stage for stage in self.stages if stage.name == name), None)


def read_rows(stage: StageView) -> Dataset:
    """The stage's rows; raises whatever `datasets` raises if the files are damaged."""
    from datasets import load_from_disk

    return load_from_disk(str(stage.directory))


def collect(record: RunRecord, workspace: Workspace) -> RunView:
    """Read all that is left of a run."""
    text, settings = _settings(record.directory / "pipeline.yaml")
    stated = _stated(settings.get("stages"))
    stages = tuple(
        _stage(name, stage, stated.get(name), workspace) for name, stage in record.stages.items()
    )
    return RunView(record, stages, settings, text, workspace)


def _stated(raw_stages: Any) -> dict[Any, Any]:
    """The settings of each stage, and of each round's; none if the file is not valid anymore."""
    try:
        stated, _ = unroll(raw_stages, Problems("", {}))
    except (ValueError, ImportError):
        return {}
    return stated if isinstance(stated, dict) else {}


def _settings(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        values = yaml.load(text, Loader=loader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        return f"# {path.name} cannot be read: {error}\n", {}
    return text, values if isinstance(values, dict) else {}


def _stage(name: str, record: StageRecord, stated: Any, workspace: Workspace) -> StageView:
    stated = stated if isinstance(stated, dict) else {}
    artifact, problem = _artifact(record.artifact, workspace)
    if artifact is None:
        pruned = find_pruned(workspace, record.artifact) if record.artifact else None
        if pruned is not None:
            known, problem = pruned.manifest, f"it was pruned on {pruned.day}"
            inputs = tuple(known.inputs)
            return StageView(
                name, known.stage, inputs, record, known, problem=problem, stated=stated
            )
        kind, inputs = str(stated.get("stage", "")), _references(stated)
        return StageView(name, kind, inputs, record, problem=problem, stated=stated)
    manifest = artifact.manifest
    inputs = tuple(manifest.inputs)
    return StageView(name, manifest.stage, inputs, record, manifest, artifact.path, stated=stated)


def _artifact(name: str | None, workspace: Workspace) -> tuple[Artifact | None, str | None]:
    """The artifact, or why it cannot be read; neither for a stage that has none."""
    if name is None:
        return None, None
    try:
        artifact = workspace.find(name, read_files=False)
    except DamagedError as error:
        return None, f"damaged: {error}"
    except (OSError, WorkspaceError) as error:
        return None, str(error)
    return artifact, None if artifact is not None else "it has been removed"


def _references(stated: Mapping[str, Any]) -> tuple[str, ...]:
    """What a stage without a manifest refers to; nothing if its settings are not valid anymore."""
    try:
        stage_class = find_stage(str(stated.get("stage")))
        stage = None if stage_class is None else stage_class.model_validate(stated)
    except (ValueError, ImportError):
        return ()
    return () if stage is None else tuple(dict.fromkeys(name for _, name, _ in references(stage)))
