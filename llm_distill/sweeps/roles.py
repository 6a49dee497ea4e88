"""Rounds of a `repeat` that may end sooner in another run, by their role in a run.

Runs are compared by the role: the best round is the third in one and the fifth in another. So a
stage outside is taken as it is written, with `trained@best`, and of the rounds the first stands for
all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_distill.pipeline.places import at_place, with_at_place
from llm_distill.pipeline.problems import Path as Place
from llm_distill.pipeline.problems import parts
from llm_distill.pipeline.rounds import End
from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.runtime.record import RunRecord
from llm_distill.stage import Stage
from llm_distill.sweeps.outcomes import Measured

Recipe = dict[str, Any]
Means = Callable[[End, str], str]
"""Of a role, and what stands for it before a run, the round that it is taken for."""


@dataclass(frozen=True)
class Written:
    """What a stage outside names of rounds, as the file has it.

    names: (such as `trained@best`, the round it is taken for); a round by its number is itself.
    places: where they stand; of a list as a whole.
    """

    names: tuple[tuple[str, str], ...]
    places: Mapping[Place, Any]


def before_a_run(end: End, stands_for_it: str) -> str:
    """See `Means`."""
    return stands_for_it


def in_a_run(record: RunRecord) -> Means:
    """What the roles have come to mean in it; a repeat that it did not end is as before a run."""

    def means(end: End, stands_for_it: str) -> str:
        loop = record.loops.get(end.block.name)
        return stands_for_it if loop is None else loop.means(end)

    return means


def roles_of(pipeline: PipelineConfig, means: Means) -> dict[str, Written]:
    """By stage, of those that name the best or the last round of a `repeat`.

    pipeline: as it is before a run.
    """
    ends: dict[str, dict[Place, End]] = {}
    for (stage, place), end in pipeline.ends.items():
        ends.setdefault(stage, {})[parts(place)] = end
    return {name: _written(pipeline.stages[name], own, means) for name, own in ends.items()}


def _written(stage: Stage, ends: Mapping[Place, End], means: Means) -> Written:
    names: dict[tuple[str, str], None] = {}
    places: dict[Place, Any] = {}
    for place, end in ends.items():
        names[end.role, means(end, at_place(stage, place))] = None
        if not isinstance(place[-1], int):
            places[place] = end.role
            continue
        of_list = place[:-1]
        at = {number: (*of_list, number) for number, _ in enumerate(at_place(stage, of_list))}
        items = [ends[p].role if p in ends else at_place(stage, p) for p in at.values()]
        places[of_list] = items
        names |= {
            (each, each): None
            for p, each in zip(at.values(), items, strict=True)
            if p not in ends and "@" in each
        }
    return Written(tuple(names), places)


def with_roles(recipe: Recipe, pipeline: PipelineConfig, roles: Mapping[str, Written]) -> Recipe:
    """A recipe by stage, as the file has the stages: the same whichever rounds it came to."""
    found = dict(recipe)
    for block in pipeline.loops:
        assert block.until is not None
        found = {n: of for n, of in found.items() if (block.has(n) or 1) == 1}
        settings = {"times": block.numbers[-1], "until": block.until.model_dump(mode="json")}
        found[block.name] = {"stage": "repeat", "settings": {"repeat": settings}}
    for name, written in roles.items():
        if name in found:
            found[name] = _as_written(found[name], written)
    return found


def _as_written(identity: Recipe, written: Written) -> Recipe:
    settings = identity.get("settings", {})
    for place, value in written.places.items():
        settings = with_at_place(settings, place, value)
    found = {**identity, "settings": settings}
    rounds = {was for _, was in written.names}
    for kind in ("inputs", "models"):
        of = identity.get(kind, {})
        kept = {name: value for name, value in of.items() if name not in rounds}
        found[kind] = kept | {name: of[was] for name, was in written.names if was in of}
    return found


def named_by_role(figure: Measured, written: Written | None) -> Sequence[Measured]:
    """The figure under each name that the stage has for its model; itself if it has none."""
    model = figure.labels.get("model", "")
    names = [name for name, was in written.names if was == model] if written is not None else []
    labels = ({**figure.labels, "model": name} for name in names)
    return [figure.model_copy(update={"labels": each}) for each in labels] or [figure]
