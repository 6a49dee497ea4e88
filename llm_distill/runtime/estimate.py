"""How much a run will ask of its models, before it asks: bounds, from settings and what is there.

    draft_questions    at most 1,200 requests, 153,600 tokens written
    exam               its rows are not known yet; last time 12,288 answers in 4 min

A bound takes every row as kept, and every answer as long as it may be. Prompts are an estimate,
from a sample of the rows, where these are there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llm_distill.engines.openai.settings import OpenAISettings
from llm_distill.manifest import Manifest
from llm_distill.pipeline.graph import base_model
from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.plan import Decision
from llm_distill.runtime.resolve import Resolver
from llm_distill.stage import rows_of
from llm_distill.stages.load_dataset import LoadDataset

CountedBy = Literal["tokenizer", "characters"]


@dataclass(frozen=True)
class Prompts:
    """Of one model, in a sample. tokens: of all of them; by: characters are taken as 4 a token."""

    tokens: float
    requests: int
    by: CountedBy

    def of(self, requests: int) -> int:
        """Tokens of as many requests."""
        return round(self.tokens * requests / self.requests)


@dataclass(frozen=True)
class Estimate:
    """Of a stage that is to run.

    requests, tokens: at most so many, of all its models; None where its rows are not known yet, 0
        where it asks no model. Tokens are those that are written.
    prompt_tokens: those that are read; None where its rows are not there yet.
    cost: of written tokens, and of prompts where they are known; None where a model has no price.
    seconds: at most, at the speed of the last time.
    last: what the stage measured the last time in this workspace, whatever has changed since.
    """

    requests: int | None
    tokens: int | None
    cost: float | None
    last: Manifest | None
    prompt_tokens: int | None = None
    prompts_by: CountedBy | None = None
    seconds: float | None = None


def estimates(
    decisions: Sequence[Decision],
    pipeline: PipelineConfig,
    workspace: Workspace,
    prompts: Mapping[str, Mapping[str, Prompts]],
) -> dict[str, Estimate]:
    """Of the stages that are to run, in order.

    prompts: samples, by stage and model.
    """
    known = most_rows(decisions, pipeline)
    found: dict[str, Estimate] = {}
    for decision in decisions:
        name, stage = decision.name, pipeline.stages[decision.name]
        if decision.artifact is not None:
            continue
        rows = {reference: known.get(reference) for reference in rows_of(stage)}
        asked = stage.most_asked(rows)
        last = workspace.latest(name)
        if asked is None:
            found[name] = Estimate(None, None, None, last)
            continue
        samples = prompts.get(name, {})
        requests = sum(n for n, _ in asked.values())
        tokens = sum(n * most for n, most in asked.values())
        is_read = bool(asked) and samples.keys() == asked.keys()
        found[name] = Estimate(
            requests,
            tokens,
            _cost(asked, samples, pipeline),
            last,
            sum(samples[m].of(n) for m, (n, _) in asked.items()) if is_read else None,
            _least_exact(samples) if is_read else None,
            _seconds(last, requests, tokens, sum(n or 0 for n in rows.values()))
            if None not in rows.values()
            else None,
        )
    return found


def sampled_prompts(
    decisions: Sequence[Decision],
    resolver: Resolver,
    folder_of: Callable[[str], Path | None],
) -> dict[str, dict[str, Prompts]]:
    """By stage and model, of the stages that are to run and whose rows are there.

    resolver: with the artifacts that are reused. folder_of: where a model's files are, or None.
    """
    wanted = asking_with_rows(decisions, resolver)
    if not wanted:
        return {}
    from llm_distill.runtime.prompt_sample import Sampler

    sampler = Sampler(resolver, folder_of)
    return {name: sampler.prompts(name, rows) for name, rows in wanted.items()}


def asking_with_rows(
    decisions: Sequence[Decision], resolver: Resolver
) -> dict[str, dict[str, int | None]]:
    """The stages that are to run, ask a model, and whose rows are there; with how many there are.

    resolver: with the artifacts that are reused.
    """
    pipeline = resolver.pipeline
    known = most_rows(decisions, pipeline)
    wanted: dict[str, dict[str, int | None]] = {}
    for decision in decisions:
        stage = pipeline.stages[decision.name]
        rows = {name: known.get(name) for name in rows_of(stage)}
        there = all(name in resolver.ready or _is_in_files(name, pipeline) for name in rows)
        if decision.artifact is None and there and stage.most_asked(rows):
            wanted[decision.name] = rows
    return wanted


def _is_in_files(name: str, pipeline: PipelineConfig) -> bool:
    stage = pipeline.stages[name]
    return isinstance(stage, LoadDataset) and not stage.hub_datasets()


def most_rows(decisions: Sequence[Decision], pipeline: PipelineConfig) -> dict[str, int | None]:
    """How many rows each stage has, or has at most; None where that is not known."""
    known: dict[str, int | None] = {}
    for decision in decisions:
        if decision.artifact is not None:
            known[decision.name] = decision.artifact.manifest.rows_out
            continue
        stage = pipeline.stages[decision.name]
        rows = {reference: known.get(reference) for reference in rows_of(stage)}
        known[decision.name] = stage.most_rows(rows)
    return known


def _least_exact(samples: Mapping[str, Prompts]) -> CountedBy:
    by_tokenizer = all(sample.by == "tokenizer" for sample in samples.values())
    return "tokenizer" if by_tokenizer else "characters"


def _seconds(last: Manifest | None, requests: int, tokens: int, rows: int) -> float | None:
    """By what there was most of the last time: tokens written, answers, or rows read.

    Only the work itself grows with them; to load a model takes as long for one row as for many.
    """
    if last is None:
        return None
    worked = sum(pace.seconds_of_work for pace in last.paces.values())
    grows = min(last.seconds, worked) or last.seconds
    made = last.completions.get("made", 0)
    measured = [(tokens, last.tokens_out), (requests, made), (rows, last.rows_in)]
    if requests == 0:
        del measured[:2]
    times = next((now / then for now, then in measured if now and then), None)
    return None if times is None else last.seconds - grows + grows * times


def _cost(
    asked: Mapping[str, tuple[int, int]],
    samples: Mapping[str, Prompts],
    pipeline: PipelineConfig,
) -> float | None:
    total = 0.0
    for model, (n, most) in asked.items():
        engine = pipeline.models[base_model(model, pipeline.stages)].engine
        if isinstance(engine, OpenAISettings):
            if engine.price is None:
                return None
            read = samples[model].of(n) if model in samples else 0
            total += (n * most * engine.price.output + read * engine.price.input) / 1e6
    return total
