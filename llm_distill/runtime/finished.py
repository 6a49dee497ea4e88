"""A run that has ended, opened again: its artifacts, and its models as the run had them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_distill.errors import ConfigError, ModelError, WorkspaceError, nearest
from llm_distill.integrity import DamagedError
from llm_distill.manifest import ModelUsed
from llm_distill.runtime.artifact import Artifact, Workspace
from llm_distill.runtime.pruned import find_pruned
from llm_distill.runtime.record import RECORD, RunRecord, read_run, runs_of

if TYPE_CHECKING:
    from llm_distill.models.sources import ModelSource
    from llm_distill.pipeline.schema import ModelConfig, PipelineConfig
    from llm_distill.runtime.resolve import Resolver


def open_run(name: str, root: Path, says: Callable[[str], None]) -> FinishedRun:
    """A run by a pipeline's name, `pipeline/time`, or its folder.

    A pipeline's name stands for its newest run that has finished and is not one of a sweep's: those
    try settings out. Where there is none, it stands for the newest.

    Args:
        name: which; a folder brings its own workspace.
        root: the workspace of a run that is named.
        says: is told of newer runs that are skipped, and why.

    Raises:
        WorkspaceError: there is none of that name, or none that can be read.
    """
    folder = Path(name).expanduser()
    if (folder / RECORD).is_file():
        folder = folder.resolve()
        workspace, name = Workspace(folder.parents[2]), f"{folder.parent.name}/{folder.name}"
    else:
        workspace = Workspace(root)
    record = read_run(workspace, name, on_damaged=says)
    if "/" not in name and not record.is_plain_and_finished:
        record = _newest_finished(record, name, workspace, says)
    return FinishedRun(record, workspace)


def _newest_finished(
    newest: RunRecord, pipeline: str, workspace: Workspace, says: Callable[[str], None]
) -> RunRecord:
    """The run that a pipeline's name stands for, where its newest is not that."""
    what = newest.state if newest.sweep is None else f"{newest.state}, one of a sweep's"
    for record in runs_of(workspace, pipeline):
        if record.is_plain_and_finished:
            says(
                f"'{pipeline}' stands for {record.name}, its newest run that has finished; "
                f"the newest of all, {newest.name}, is {what}"
            )
            return record
    says(
        f"no run of '{pipeline}' outside a sweep has finished; this is its newest, "
        f"{newest.name} ({what})"
    )
    return newest


@dataclass
class FinishedRun:
    """A run's record with the workspace that has its artifacts."""

    record: RunRecord
    workspace: Workspace

    @cached_property
    def pipeline(self) -> PipelineConfig:
        """The pipeline as it was run.

        Raises:
            ConfigError: the file in the run's folder is not valid here, which names what.
        """
        from llm_distill.pipeline.settled import settled

        pipeline = self.as_written
        for block in pipeline.loops:
            if block.name in self.record.loops:
                loop = self.record.loops[block.name]
                pipeline = settled(pipeline, block, loop.last, loop.best)
        return pipeline

    @cached_property
    def as_written(self) -> PipelineConfig:
        """The pipeline before it was known after which round a `repeat` ends.

        Raises:
            ConfigError: as `pipeline`.
        """
        from llm_distill.pipeline.load import load_pipeline

        return load_pipeline(str(self.record.directory / "pipeline.yaml"), has_run=True)

    def stage(self, name: str) -> str:
        """The stage's full name: of a stage of a `repeat`, `x` stands for the last round that ran.

        `x@best` and `x@last` are as in the pipeline's file.

        Raises:
            WorkspaceError: the run has no such stage.
        """
        if name in self.record.stages:
            return name
        plain, _, which = name.partition("@")
        rounds = [each for each in self.record.stages if each.partition("@")[0] == plain]
        if rounds and which in ("", "last"):
            return max(rounds, key=lambda each: int(each.partition("@")[2]))
        if rounds and which == "best":
            for block in self.as_written.loops:
                loop = self.record.loops.get(block.name)
                if plain in block.stages and loop is not None and loop.best is not None:
                    return f"{plain}@{loop.best}"
        hint = nearest(name, self.record.stages)
        raise WorkspaceError(f"run {self.record.name} has no stage '{name}'; {hint}")

    def artifact(self, name: str, *, to_do: str = "use", read_files: bool = False) -> Artifact:
        """What a stage left.

        Args:
            name: the stage.
            to_do: what it is wanted for, for the message.
            read_files: compare the files' digests as well as their sizes.

        Raises:
            WorkspaceError: there is nothing, or it is damaged.
        """
        stage = self.record.stages[self.stage(name)]
        if stage.artifact is None:
            raise WorkspaceError(
                f"stage '{name}' of run {self.record.name} has nothing to {to_do}: it is "
                f"{stage.state}"
            )
        path = self.workspace.path(stage.artifact)
        try:
            artifact = self.workspace.find(stage.artifact, read_files=read_files)
        except DamagedError as damaged:
            raise WorkspaceError(
                f"{path} is damaged ({damaged}); run the pipeline again"
            ) from damaged
        if artifact is None:
            pruned = find_pruned(self.workspace, stage.artifact)
            gone = "is gone" if pruned is None else f"was pruned on {pruned.day}"
            raise WorkspaceError(f"{path} {gone}; run the pipeline again")
        return artifact

    def trained(self) -> list[str]:
        """The stages that left a model, in the pipeline's order."""
        stages = self.pipeline.stages
        return [
            name
            for name, stage in self.record.stages.items()
            if stage.artifact is not None and name in stages and stages[name].output == "model"
        ]

    def model_name(self, name: str) -> str:
        """The full name of a stage that gives a model, or of an entry under `models:`.

        Raises:
            ConfigError: it gives rows.
            WorkspaceError: there is neither.
        """
        if name in self.pipeline.models:
            return name
        known = {*self.record.stages, *self.pipeline.models}
        if not any(each.partition("@")[0] == name.partition("@")[0] for each in known):
            models = nearest(name, [*self.pipeline.models, *self.trained()])
            raise WorkspaceError(f"run {self.record.name} has no model or stage '{name}'; {models}")
        full = self.stage(name)
        if full in self.pipeline.stages and self.pipeline.stages[full].output != "model":
            models = nearest(name, [*self.trained(), *self.pipeline.models])
            raise ConfigError(f"stage '{name}' gives rows, not a model; {models}")
        return full

    def model(self, name: str) -> ModelSource:
        """Where a model and its bases are, as the run had them.

        Args:
            name: a stage that gives a model, or an entry under `models:`.

        Raises:
            ModelError: the base has changed since the run; adapters fit no other weights.
            WorkspaceError: a stage's artifact is not there.
        """
        from llm_distill.pipeline.graph import base_model

        name = self.model_name(name)
        self._make_ready(name)
        source = self._resolver.model(name)
        base = base_model(name, self.pipeline.stages)
        then = self._used_then(base)
        if then is None:
            return source
        if source.adapters and not _is_same(then.identity, self._resolver.used(base).identity):
            raise ModelError(
                f"the base '{base}' has changed since run {self.record.name}, so the adapter of "
                f"'{name}' does not fit it; run the pipeline again"
            )
        is_base = not source.is_local and self.model_config(name).engine.has_weights_here()
        return replace(source, revision=then.revision or source.revision) if is_base else source

    def model_config(self, name: str) -> ModelConfig:
        """The entry under `models:` that a model goes back to."""
        return self._resolver.model_config(self.model_name(name))

    @cached_property
    def _resolver(self) -> Resolver:
        from llm_distill.runtime.resolve import Resolver

        pipeline = self.pipeline
        return Resolver(pipeline, lambda: self.workspace.first_run(pipeline.name, note=False))

    def _make_ready(self, name: str) -> None:
        """Find the artifacts of a model and of each trained model below it."""
        from llm_distill.stage import models_of

        stages = self.pipeline.stages
        while name in stages:
            if name not in self._resolver.ready:
                self._resolver.ready[name] = self.artifact(name)
            name = models_of(stages[name])[0]

    def _used_then(self, model: str) -> ModelUsed | None:
        """What the run noted of a model from outside."""
        from llm_distill.manifest import read_manifest

        for stage in self.record.stages.values():
            if stage.artifact is None:
                continue
            manifest = read_manifest(self.workspace.path(stage.artifact))
            if manifest is not None and model in manifest.models:
                return manifest.models[model]
        return None


def _is_same(then: Any, now: Any) -> bool:
    """Whether weights are those of the run; of a name on the Hub its commit is asked for again."""
    on_hub = [each.get("hub") for each in (then, now) if isinstance(each, dict)]
    return then == now or (len(on_hub) == 2 and on_hub[0] is not None and on_hub[0] == on_hub[1])
