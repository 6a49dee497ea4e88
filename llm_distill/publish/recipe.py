"""The part of a pipeline file that makes an artifact, without private values."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from llm_distill.publish.scrub import scrubbed

ANY_SERVER = "http://localhost:8000/v1"
"""Replaces a server's address: others have a server of their own."""


def recipe(
    pipeline: Mapping[str, Any],
    stages: Collection[str],
    models: Collection[str],
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """A pipeline file with only these stages and models, in the order of the file.

    A `repeat` has as many rounds as are needed, each with all its stages and what they name: part
    of a round cannot be written.

    Args:
        pipeline: The resolved file (with profile, `--set` and `${VAR}`).
        stages: Names of stages, such as `answers@2`.
        models: Names of entries under `models:`.
        environment: Variables whose values are replaced by their names.
    """
    entries, configs = pipeline.get("stages") or {}, pipeline.get("models") or {}
    rounds, named = _needed(entries, stages)
    kept = {
        "name": pipeline.get("name"),
        "seed": pipeline.get("seed", 0),
        "models": {n: _anywhere(m) for n, m in configs.items() if n in {*models, *named}},
        "stages": {n: _with_times(s, rounds[n]) for n, s in entries.items() if n in rounds},
    }
    whole = {name: value for name, value in kept.items() if value not in (None, {})}
    cleaned: dict[str, Any] = scrubbed(whole, environment)
    return cleaned


def is_pipeline(values: Any) -> bool:
    """Whether these are settings as a run writes them down, and not what damage has left."""
    if not isinstance(values, dict):
        return False
    stages, models = values.get("stages") or {}, values.get("models") or {}
    return (
        _is_named(stages)
        and all(
            isinstance(s.get("stage"), str) or _is_repeat(s.get("repeat")) for s in stages.values()
        )
        and _is_named(models)
        and all(_is_model(model) for model in models.values())
    )


def _is_named(entries: Any) -> bool:
    """Whether it is a mapping of names to mappings."""
    return isinstance(entries, dict) and all(
        isinstance(name, str) and isinstance(entry, dict) for name, entry in entries.items()
    )


def _is_repeat(block: Any) -> bool:
    is_one = isinstance(block, dict) and isinstance(block.get("times"), int)
    return is_one and _is_named(block.get("stages"))


def _is_model(model: Mapping[str, Any]) -> bool:
    engine = model.get("engine") or {}
    return isinstance(engine, dict) and isinstance(engine.get("kind") or "", str)


def _anywhere(model: Mapping[str, Any]) -> Mapping[str, Any]:
    engine = model.get("engine") or {}
    if "base_url" not in engine:
        return model
    return {**model, "engine": {**engine, "base_url": ANY_SERVER}}


def _needed(entries: Mapping[str, Any], stages: Collection[str]) -> tuple[dict[str, int], set[str]]:
    """The needed entries under `stages:` with their rounds, and all texts in those that repeat.

    What a text in a `repeat` names is needed too; it does no harm if it is not a name.
    """
    block_of = {stage: name for name, entry in entries.items() for stage in _repeated(entry)}
    rounds: dict[str, int] = {}
    texts: set[str] = set()
    left = list(stages)
    for name in left:  # grows
        stage, _, which = name.partition("@")
        entry = block_of.get(stage, stage)
        if entry not in entries:
            continue
        if entry not in rounds and (entry in block_of.values() or name not in stages):
            found = set(_texts(entries[entry]))
            texts |= found
            left.extend(found)
        is_last = which == "last" and _repeated(entries[entry])
        last = int(entries[entry]["repeat"]["times"]) if is_last else 1
        rounds[entry] = max(rounds.get(entry, 1), int(which) if which.isdecimal() else last)
    return rounds, texts


def _repeated(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The stages of a `repeat`; none of a stage."""
    stages: Mapping[str, Any] = {} if "stage" in entry else entry["repeat"]["stages"]
    return stages


def _with_times(entry: Mapping[str, Any], times: int) -> Mapping[str, Any]:
    return {"repeat": {**entry["repeat"], "times": times}} if _repeated(entry) else entry


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)
