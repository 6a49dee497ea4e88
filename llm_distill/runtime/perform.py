"""Does a stage's work, in this process or in a worker: inputs in, a folder and its figures out.

It does not know the workspace: `execute` publishes the folder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_distill.runtime.context import StageContext, StageInputs
from llm_distill.runtime.environment import environment
from llm_distill.runtime.progress import MakeProgress
from llm_distill.runtime.writer import write_rows
from llm_distill.stage import RowsOutput, Stage


@dataclass(frozen=True)
class Done:
    """What a stage left.

    directory: what is to be published. rows, features: None for a model.
    manifest: the figures that only the execution knows.
    spent: what the run has spent by now, with the worst case of calls of unknown price.
    """

    directory: Path
    rows: int | None
    features: dict[str, Any] | None
    manifest: dict[str, Any]
    spent: float


def perform(stage: Stage, inputs: StageInputs, progress: MakeProgress) -> Done:
    """Run the stage and write what it gives into its folder."""
    budget = inputs.budget
    context = StageContext(inputs, lambda model: model.engine.open(model.source, budget), progress)
    try:
        output = stage.run(context)
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
            _warn_if_hardly_any_row_is_left(context)
    finally:
        context.close()
    manifest = {
        "rows_in": context.rows_read,
        "dropped": context.dropped,
        "completions": context.completions,
        "tokens_in": context.n_prompt_tokens,
        "tokens_out": context.n_completion_tokens,
        "cost": context.cost,
        "tokens_by_model": context.tokens_by_model,
        "failed": context.failed,
        "metrics": context.metrics,
        "warnings": context.warnings,
        "texts": sorted(texts),
        **environment(),
    }
    return Done(directory, rows, features, manifest, budget.spent)


def _warn_if_hardly_any_row_is_left(context: StageContext) -> None:
    """Of a training: it ends well with one row of a thousand, and nobody meant that."""
    left_out = context.dropped.total()
    if 2 * left_out > context.rows_read:
        reasons = ", ".join(f"{why}: {n:,}" for why, n in context.dropped.most_common(3))
        context.warn(
            f"{left_out:,} of {context.rows_read:,} rows were left out ({reasons}), so the model "
            "has learned from the few others"
        )
