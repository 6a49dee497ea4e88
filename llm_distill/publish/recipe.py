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
