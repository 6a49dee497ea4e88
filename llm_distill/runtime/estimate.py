"""How much a run will ask of its models, before it asks: bounds, from settings and what is there.

    draft_questions    at most 1,200 requests, 153,600 tokens written
    exam               its rows are not known yet; last time 12,288 answers in 4 min

A bound takes every row as kept, and every answer as long as it may be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llm_distill.engines.openai.settings import OpenAISettings
from llm_distill.manifest import Manifest
from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.plan import Decision
from llm_distill.stage import models_of, rows_of


@dataclass(frozen=True)
class Estimate:
    """Of a stage that is to run.

    requests, tokens: at most so many, of all its models; None where its rows are not known yet, 0
        where it asks no model. Tokens are those that are written.
    cost: of these tokens, where all models have a price; the prompts come on top.
    last: what the stage measured the last time in this workspace, whatever has changed since.
    """

    requests: int | None
    tokens: int | None
    cost: float | None
    last: Manifest | None


def estimates(
    decisions: Sequence[Decision], pipeline: PipelineConfig, workspace: Workspace
) -> dict[str, Estimate]:
    """Of the stages that are to run, in order."""
    known: dict[str, int | None] = {}
    found: dict[str, Estimate] = {}
    for decision in decisions:
        name, stage = decision.name, pipeline.stages[decision.name]
        if decision.artifact is not None:
            known[name] = decision.artifact.manifest.rows_out
            continue
        rows = {reference: known.get(reference) for reference in rows_of(stage)}
        known[name] = stage.most_rows(rows)
        asked = stage.most_asked(rows)
        if asked is None:
            found[name] = Estimate(None, None, None, workspace.latest(name))
            continue
        requests = sum(n for n, _ in asked.values())
        tokens = sum(n * most for n, most in asked.values())
        cost = _cost(asked, pipeline)
        found[name] = Estimate(requests, tokens, cost, workspace.latest(name))
    return found


def _cost(asked: Mapping[str, tuple[int, int]], pipeline: PipelineConfig) -> float | None:
    total = 0.0
    for model, (n, most) in asked.items():
        while model in pipeline.stages:
            model = models_of(pipeline.stages[model])[0]
        engine = pipeline.models[model].engine
        if isinstance(engine, OpenAISettings):
            if engine.price is None:
                return None
            total += n * most * engine.price.output / 1e6
    return total
