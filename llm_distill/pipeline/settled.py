"""A pipeline once it is known after which round a `repeat` has ended. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

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
            stages[name] = _with(stages[name], at, f"{end.stage}@{number}")
            if isinstance(at[-1], int):
                lists[name, at[:-1]] = None
    for name, at in lists:  # the best and the last may be the same, which is named once
        items = at_place(stages[name], at)
        stages[name] = _with(stages[name], at, type(items)(dict.fromkeys(items)))
    return replace(
        pipeline,
        stages=stages,
        loops=tuple(each for each in pipeline.loops if each.name != block.name),
        ends={at: end for at, end in pipeline.ends.items() if end.block.name != block.name},
    )


def passed_over(pipeline: PipelineConfig, block: Block, last: int) -> list[str]:
    """The stages of the rounds after the last."""
    return [name for name in pipeline.stages if (block.has(name) or 0) > last]


def at_place(value: Any, place: Place) -> Any:
    """What stands there in a stage's settings."""
    for part in place:
        value = getattr(value, str(part)) if isinstance(value, BaseModel) else value[part]
    return value


def _with(value: Any, place: Place, new: Any) -> Any:
    """A copy with another value at a place, whose settings are of the same kind as before."""
    if not place:
        return new
    first, rest = place[0], place[1:]
    inner = _with(at_place(value, (first,)), rest, new)
    if isinstance(value, BaseModel):
        return value.model_copy(update={str(first): inner})
    if isinstance(value, Mapping):
        return {**value, first: inner}
    return type(value)(inner if index == first else item for index, item in enumerate(value))
