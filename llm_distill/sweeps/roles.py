"""Rounds of a `repeat` that may end sooner in another run, by their role in a run.

Runs are compared by the role: the best round is the third in one and the fifth in another. So a
stage outside is taken as it is written, with `trained@best`, and of the rounds the first stands for
all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from llm_distill.pipeline.places import at_place
from llm_distill.pipeline.problems import parts
from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.runtime.record import RunRecord
from llm_distill.sweeps.outcomes import Measured

Recipe = dict[str, Any]
Role = tuple[str, str]
"""Such as `trained@best`, and the round that it is, or that stands for it before a run."""


def of_record(recipe: Recipe, record: RunRecord) -> Recipe:
    """The recipe of a run, by stage, as its file has the stages."""
    found = dict(recipe)
    for block, loop in record.loops.items():
        found = {n: of for n, of in found.items() if not _is_later(n, loop.stages)}
        for stage, named in loop.named.items():
            if stage in found:
                roles = {place: (role, loop.means(role)) for place, role in named.items()}
                found[stage] = _as_written(found[stage], roles)
        found[block] = _of_block(loop.times, loop.until)
    return found


def of_pipeline(recipe: Recipe, pipeline: PipelineConfig) -> Recipe:
    """As `of_record`, of a pipeline that has not run."""
    found = dict(recipe)
    for block in pipeline.loops:
        assert block.until is not None
        found = {n: of for n, of in found.items() if not _is_later(n, block.stages)}
        named: dict[str, dict[str, Role]] = defaultdict(dict)
        for (stage, place), end in pipeline.ends.items():
            if end.block.name == block.name:
                stands_for_it = at_place(pipeline.stages[stage], parts(place))
                named[stage][place] = f"{end.stage}@{end.which}", stands_for_it
        for stage, roles in named.items():
            found[stage] = _as_written(found[stage], roles)
        until = block.until.model_dump(mode="json")
        found[block.name] = _of_block(block.numbers[-1], until)
    return found


def named_by_role(figure: Measured, stage: str, record: RunRecord) -> Sequence[Measured]:
    """The figure under each role that the stage names its model by; itself if it names none."""
    model = figure.labels.get("model", "")
    roles = [
        name
        for loop in record.loops.values()
        for name in dict.fromkeys(loop.named.get(stage, {}).values())
        if loop.means(name) == model
    ]
    as_role = ({**figure.labels, "model": role} for role in roles)
    return [figure.model_copy(update={"labels": labels}) for labels in as_role] or [figure]


def _is_later(stage: str, stages: Sequence[str]) -> bool:
    plain, _, number = stage.partition("@")
    return plain in stages and number not in ("", "1")


def _of_block(times: int, until: Mapping[str, Any]) -> Recipe:
    """In the form of a stage's recipe."""
    return {"stage": "repeat", "settings": {"repeat": {"times": times, "until": dict(until)}}}


def _as_written(identity: Recipe, roles: Mapping[str, Role]) -> Recipe:
    """A stage's recipe with the roles in place of the rounds, by place such as `models[1]`."""
    settings = identity.get("settings", {})
    for place, (role, was) in roles.items():
        settings = _with(settings, parts(place), role, was)
    found = {**identity, "settings": settings}
    rounds = {was for _, was in roles.values()}
    for kind in ("inputs", "models"):
        of = dict(identity.get(kind, {}))
        kept = {name: value for name, value in of.items() if name not in rounds}
        found[kind] = kept | {role: of[was] for role, was in roles.values() if was in of}
    return found


def _with(value: Any, place: Sequence[str | int], role: str, was: str) -> Any:
    """A copy with the role at a place. Two roles that came to one round were listed once."""
    first, rest = place[0], place[1:]
    if isinstance(value, list) and isinstance(first, int) and not rest:
        head, tail = value[:first], value[first:]
        return [*head, role, *(tail[1:] if tail[:1] == [was] else tail)]
    inner = role if not rest else _with(value[first], rest, role, was)
    if isinstance(value, list):
        return [inner if index == first else item for index, item in enumerate(value)]
    return {**value, first: inner}
