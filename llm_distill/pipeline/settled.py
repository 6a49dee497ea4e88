"""A pipeline once it is known after which round a `repeat` has ended. Pure."""

from __future__ import annotations

from dataclasses import replace

from llm_distill.pipeline.places import at_place, with_at_place
from llm_distill.pipeline.problems import Path as Place
from llm_distill.pipeline.problems import parts
from llm_distill.pipeline.rounds import Block
from llm_distill.pipeline.schema import PipelineConfig


def settled(pipeline: PipelineConfig, block: Block, last: int, best: int | None) -> PipelineConfig:
    """Without the rounds after the last, and with what `x@best` and `x@last` have come to mean.

    best: None where nothing says which it is.
    """
    passed = set(passed_over(pipeline, block, last))
    stages = {name: stage for name, stage in pipeline.stages.items() if name not in passed}
    lists: dict[tuple[str, Place], None] = {}
    for (name, place), end in pipeline.ends.items():
        if end.block.name == block.name and name in stages:
            number = last if end.which == "last" or best is None else best
            at = parts(place)
            stages[name] = with_at_place(stages[name], at, f"{end.stage}@{number}")
            if isinstance(at[-1], int):
                lists[name, at[:-1]] = None
    for name, at in lists:  # the best and the last may be the same, which is named once
        items = at_place(stages[name], at)
        stages[name] = with_at_place(stages[name], at, type(items)(dict.fromkeys(items)))
    return replace(
        pipeline,
        stages=stages,
        loops=tuple(each for each in pipeline.loops if each.name != block.name),
        ends={at: end for at, end in pipeline.ends.items() if end.block.name != block.name},
    )


def passed_over(pipeline: PipelineConfig, block: Block, last: int) -> list[str]:
    """The stages of the rounds after the last."""
    return [name for name in pipeline.stages if (block.has(name) or 0) > last]
