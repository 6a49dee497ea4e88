"""A stage with other names of stages and models than its file has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_distill.pipeline.problems import Path as Place
from llm_distill.pipeline.problems import parts
from llm_distill.stage import Stage, references


def with_references(stage: Stage, renamed: Mapping[str, str]) -> Stage:
    """The stage with other names of stages and models; each once where they are a list."""
    for place, target, _ in reversed(references(stage)):
        if renamed.get(target, target) != target:
            stage = with_reference(stage, place, renamed[target])
    return stage


def with_reference(stage: Stage, place: str, name: str) -> Stage:
    """The stage with another name at a place such as `models[1]` or `judges.strict.model`."""
    changed: Stage = _with(stage, parts(place), name)
    return changed


def _with(settings: Any, place: Place, name: str) -> Any:
    first, *rest = place
    if isinstance(first, int):
        changed = [name if index == first else each for index, each in enumerate(settings)]
        return type(settings)(dict.fromkeys(changed))
    if isinstance(settings, dict):
        changed_one = _with(settings[first], tuple(rest), name) if rest else name
        return {**settings, first: changed_one}
    inner = getattr(settings, first)
    return settings.model_copy(update={first: _with(inner, tuple(rest), name) if rest else name})
