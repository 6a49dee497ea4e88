"""Does a stage's work, in this process or in a worker: inputs in, a folder and its figures out.

It knows nothing of the workspace; what it leaves in the folder is published by `execute`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_distill.engines.budget import Budget
from llm_distill.runtime.context import StageContext, StageInputs
from llm_distill.runtime.environment import environment
from llm_distill.runtime.progress import StageProgress
from llm_distill.runtime.writer import write_rows
from llm_distill.stage import RowsOutput, Stage

MakeProgress = Callable[[str, int | None, str, int], AbstractContextManager[StageProgress]]


@dataclass(frozen=True)
class StageJob:
    """A stage and what it is given; it can be sent to another process.

    budget: a copy of the run's; what is spent then comes back.
    """

    stage: Stage
    inputs: StageInputs
    budget: Budget


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


def perform(job: StageJob, progress: MakeProgress) -> Done:
    """Run the stage and write what it gives into its folder."""
    context = StageContext(
        job.inputs, lambda model: model.engine.open(model.source, job.budget), progress
    )
    try:
        output = job.stage.run(context)
        if isinstance(output, RowsOutput):
            directory = context.work_dir / "artifact"
            texts = dict(output.files or {})
            for name in texts:
                if not re.fullmatch(r"\w[\w-]*\.(yaml|md|txt)", name):
                    raise ValueError(f"'{name}' is not a name for a text beside rows: list.yaml is")
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
