"""A run and what its stages gave, as plain values, datasets and paths."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from llm_distill.api.figures import plain_rows
from llm_distill.errors import ConfigError, WorkspaceError, counted, nearest
from llm_distill.evaluation.results import Results
from llm_distill.integrity import DamagedError
from llm_distill.manifest import Manifest
from llm_distill.paths import find_resource
from llm_distill.runtime.artifact import Artifact, Workspace
from llm_distill.runtime.record import RunRecord, StageRecord, State, read_run

if TYPE_CHECKING:
    from datasets import Dataset
    from pandas import DataFrame

VARIABLE, DEFAULT = "LLM_DISTILL_WORKSPACE", "data"


def workspace_at(folder: str | os.PathLike[str] | None) -> Workspace:
    """The workspace in a folder; unless given, that of the variable, or else `data`.

    Its paths stay valid when the program goes to another folder.
    """
    given = Workspace(Path(folder or os.environ.get(VARIABLE) or DEFAULT))
    return Workspace(given.root.absolute())


def load_run(name: str | None = None, *, workspace: str | os.PathLike[str] | None = None) -> Run:
    """A run of the workspace, finished or not.

    Args:
        name: `arte/20260117-093012`, or `arte` for the newest run of that pipeline, or None for the
            newest of all.
        workspace: As for `ld.run`.

    Raises:
        WorkspaceError: There is none of that name.
    """
    place = workspace_at(workspace)
    return Run(read_run(place, name), place)


class Run:
    """A run. `run["exam"]` is what the stage of that name gave; `list(run)` has the names.

    Attributes:
        name: `arte/20260117-093012`.
        directory: Its folder, with settings and logs.
    """

    def __init__(self, record: RunRecord, workspace: Workspace) -> None:
        self._record, self._workspace = record, workspace
        self.name = record.name
        self.directory = record.directory

    @property
    def state(self) -> State:
        """How it ended: "done", "failed", "interrupted"; or "running"."""
        return self._record.state

    @property
    def settings(self) -> dict[str, Any]:
        """The pipeline file as it was run: with its base, profile and overrides."""
        file = self.directory / "pipeline.yaml"
        try:
            values = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise WorkspaceError(f"{file} cannot be read: {error}") from error
        return values if isinstance(values, dict) else {}

    def report(self, output: str | os.PathLike[str] | None = None) -> Path:
        """Write the run's report, one HTML file, and return its path.

        Args:
            output: The file; `report.html` in the run's folder unless given.
        """
        from llm_distill.report.write import write_report

        return write_report(self._record, self._workspace, Path(output) if output else None)

    def to_pandas(self) -> DataFrame:
        """A row for each stage: state, rows, dropped, tokens, seconds."""
        from pandas import DataFrame

        stages = (self[name] for name in self)
        return DataFrame(
            {
                "stage": stage.name,
                "state": stage.state,
                "rows": stage.rows,
                "dropped": sum(stage.dropped.values()),
                "tokens": stage.tokens,
                "seconds": stage.seconds,
            }
            for stage in stages
        )

    def __getitem__(self, name: str) -> StageResult:
        """What a stage gave. A name under `models:` gives the model, of which only `path` is there.

        Raises:
            ConfigError: There is no such stage in the run.
        """
        if name in self:
            return StageResult(name, self._workspace, self._record.stages[name])
        models = self.settings.get("models") or {}
        if name in models:
            return StageResult(name, self._workspace, None, str(models[name]["model_name_or_path"]))
        raise ConfigError(f"run {self.name}: no stage '{name}'; {nearest(name, self)}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._record.stages)

    def __len__(self) -> int:
        return len(self._record.stages)

    def __contains__(self, name: object) -> bool:
        return name in self._record.stages

    def __repr__(self) -> str:
        lines = [f"  {self[name]!r}" for name in self]
        return "\n".join([self._record.described, *lines])


class StageResult:
    """What a stage of a run gave: rows or a model, and what it measured.

    Attributes:
        name: The stage's.
        state: "done", "reused", "failed", "interrupted", "running", "waiting"; "given" for a model
            that the file names.
        why: Why it was run or reused; of a stage that failed, the error.
        rows: How many rows it gave; None for a model.
        dropped: How many rows it left out, by reason.
        tokens: That models wrote for it in this run.
        seconds: That it took in this run.
    """

    def __init__(
        self,
        name: str,
        workspace: Workspace,
        record: StageRecord | None,
        model_name_or_path: str = "",
    ) -> None:
        self._workspace, self._given = workspace, model_name_or_path
        known = record or StageRecord()
        self._address = known.artifact
        self.name = name
        self.state: str = "given" if record is None else known.state
        self.why = known.why
        self.rows = known.rows
        self.dropped = dict(known.dropped)
        self.tokens = known.tokens
        self.seconds = known.seconds

    @property
    def path(self) -> Path:
        """The folder with its model, as transformers loads it, or with its rows.

        Raises:
            WorkspaceError: It gave nothing, or that is gone.
            ConfigError: A model that is not on this machine's disk.
        """
        if self.state != "given":
            return self._artifact.path
        found = find_resource(self._given)
        if found is None:
            raise ConfigError(f"'{self.name}' is {self._given}, which is not a folder here")
        return found

    @property
    def manifest(self) -> Manifest:
        """All that was noted of its making: inputs, settings, versions, figures."""
        return self._artifact.manifest

    @property
    def metrics(self) -> dict[str, Any]:
        """What it measured, as its manifest has it, such as `train_loss`."""
        return self.manifest.metrics

    @property
    def warnings(self) -> tuple[str, ...]:
        return self.manifest.warnings

    @property
    def results(self) -> list[dict[str, Any]]:
        """What it measured, a mapping for each figure.

        `table` says what is measured; then its labels, such as model and shots; `value`; `low` and
        `high`, the ends of its 95 % interval; `n`, the items. Accuracies and their differences are
        shares.
        """
        return plain_rows(self.measured)

    @property
    def measured(self) -> Results:
        """The same and more, typed: also counts of unreadable answers, and a training's history."""
        return Results.from_metrics(self.metrics)

    @property
    def dataset(self) -> Dataset:
        """Its rows as a Hugging Face dataset, read from disk as they are needed.

        Raises:
            ConfigError: It gives a model.
        """
        artifact = self._artifact
        if artifact.manifest.rows_out is None:
            raise ConfigError(f"stage '{self.name}' gives a model, not rows; see its path")
        from datasets import load_from_disk

        return load_from_disk(str(artifact.path))

    def to_pandas(self) -> DataFrame:
        """Its rows as a table in memory."""
        return self.dataset.to_pandas()

    @property
    def _artifact(self) -> Artifact:
        if self._address is None:
            said = self.why if self.state in ("failed", "interrupted") else ""
            raise WorkspaceError(
                f"'{self.name}' gave nothing in this run: it is {self.state}"
                + (f" ({said})" if said else "")
            )
        try:
            found = self._workspace.find(self._address, read_files=False)
        except DamagedError as error:
            raise WorkspaceError(f"stage '{self.name}': {error}; run it again") from error
        if found is None:
            raise WorkspaceError(
                f"stage '{self.name}': {self._workspace.path(self._address)} is gone; run it again"
            )
        return found

    def __repr__(self) -> str:
        gave = "" if self.rows is None else f", {counted(self.rows, 'row')}"
        return f"{self.name}: {self.state}{gave}"
