"""Does a stage's work, in this process or in a worker: inputs in, a folder and its figures out.

It knows nothing of the workspace; what it leaves in the folder is published by `execute`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from llm_distill.engines.budget import Budget
from llm_distill.engines.settings import EngineSettings
from llm_distill.models.sources import ModelSource
from llm_distill.runtime.context import StageContext
from llm_distill.runtime.environment import environment
from llm_distill.runtime.progress import StageProgress
from llm_distill.runtime.writer import write_rows
from llm_distill.stage import RowsOutput, Stage
from llm_distill.tracking import TrackedRun

MakeProgress = Callable[[str, int | None, str, int], AbstractContextManager[StageProgress]]


@dataclass(frozen=True)
class Job:
    """Everything that a stage needs to run; it can be sent to another process.

    datasets, training, models, engines, identities, artifacts: see `StageContext`.
    budget: a copy of the run's; what is spent then comes back.
    """

    stage: Stage
    seed: int
    work_dir: Path
    datasets: dict[str, Path]
    training: dict[str, list[str]]
    models: dict[str, ModelSource]
    engines: Mapping[str, EngineSettings]
    identities: dict[str, tuple[Any, str]]
    store: Path
    budget: Budget
    tracked: TrackedRun
    artifacts: dict[str, Path]
    pipeline: dict[str, Any]


@dataclass(frozen=True)
class Done:
    """What a stage left.

    directory: what is to be published. rows, features: None where it is a model.
    manifest: the figures that only the execution knows.
    spent: what the run has spent now, with the worst case of calls whose price nobody knows.
    """

    directory: Path
    rows: int | None
    features: dict[str, Any] | None
    manifest: dict[str, Any]
    spent: float


def perform(job: Job, progress: MakeProgress) -> Done:
    """Run the stage and write what it gives into its folder."""
    context = StageContext(
        seed=job.seed,
        work_dir=job.work_dir,
        datasets=job.datasets,
        training=job.training,
        models=job.models,
        engines={
            name: partial(settings.open, job.models[name], job.budget)
            for name, settings in job.engines.items()
        },
        identities=job.identities,
        store=job.store,
        progress_factory=progress,
        tracked=job.tracked,
        structured=frozenset(name for name, e in job.engines.items() if e.holds_structure),
        artifacts=job.artifacts,
        pipeline=job.pipeline,
    )
    try:
        output = job.stage.run(context)
        if isinstance(output, RowsOutput):
            directory = job.work_dir / "artifact"
            texts = dict(output.files or {})
            for name in texts:
                if not re.fullmatch(r"\w[\w-]*\.(yaml|md|txt)", name):
                    raise ValueError(f"'{name}' is no name for a text beside rows: list.yaml is")
            rows, features = write_rows(output, directory), output.features.to_dict()
            for name, text in texts.items():
                (directory / name).write_text(text, encoding="utf-8")
        else:
            directory, rows, features, texts = output.directory, None, None, {}
    finally:
        context.close()
    manifest = {**figures(context), "texts": sorted(texts), **environment()}
    return Done(directory, rows, features, manifest, job.budget.spent)


def figures(context: StageContext) -> dict[str, Any]:
    """What the context counted, as the manifest has it."""
    counts: dict[str, Counter[Any]] = {
        "dropped": context.dropped,
        "completions": context.completions,
    }
    return {
        "rows_in": context.rows_read,
        **{name: dict(count) for name, count in counts.items()},
        "tokens_in": context.n_prompt_tokens,
        "tokens_out": context.n_completion_tokens,
        "cost": context.cost,
        "metrics": context.metrics,
        "warnings": context.warnings,
    }
