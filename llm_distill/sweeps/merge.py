"""Whether runs belong to one study, and one file of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_distill.errors import ConfigError
from llm_distill.runtime.fingerprint import differences
from llm_distill.sweeps.grid import described
from llm_distill.sweeps.outcomes import Key, Outcome, SweepFile

SHOWN = 3
Recipe = Mapping[str, Any]
"""Stage to what could change its result; see `SweepFile`."""


def merged(files: Sequence[tuple[str, SweepFile]]) -> SweepFile:
    """One file with the runs of all; the names are for messages.

    Raises:
        ConfigError: they are of other pipelines, profiles, places, settings, data or items, or a
            run is in two of them with different results.
    """
    first_name, first = files[0]
    whole = first.model_copy(deep=True)
    for name, file in files[1:]:
        apart = why_apart(whole, file)
        if apart:
            raise ConfigError(
                f"{name} cannot be put together with {first_name}: {'; '.join(apart[:SHOWN])}; "
                "look at each by itself"
            )
        whole.recipes.update(file.recipes)
        for outcome in file.runs:
            known = whole.find(outcome.setting, outcome.seed)
            if known is None or known.state == "failed":
                whole.put(outcome, items=file.items)
            elif outcome.state == "done" and not _says_the_same(known, outcome):
                raise ConfigError(
                    f"{name}: {of_run(outcome)} is in a file before it too, with other results; "
                    "a run counts once: leave one of the files out"
                )
    return whole


def why_apart(a: SweepFile, b: SweepFile) -> list[str]:
    """What keeps the runs of two files from being put together, in words; nothing if they can."""
    if a.pipeline != b.pipeline:
        return [f"pipeline {a.pipeline} and pipeline {b.pipeline}"]
    if a.profile != b.profile:
        return [f"profile {a.profile or 'none'} and profile {b.profile or 'none'}"]
    if set(a.places) != set(b.places):
        only = sorted(set(a.places) ^ set(b.places))
        return [f"only one of them says what {', '.join(only)} is"]
    found: dict[str, None] = {}
    for left in _one_of_each_recipe(a):
        for right in _one_of_each_recipe(b):
            places = () if left.setting == right.setting else a.places
            for line in recipe_differences(
                a.recipes.get(left.recipe, {}), b.recipes.get(right.recipe, {}), places
            ):
                found[line] = None
    return list(found) or _other_items(a, b)


def recipe_differences(a: Recipe, b: Recipe, places: Sequence[str] = ()) -> list[str]:
    """How two recipes differ apart from `places`, which runs differ in on purpose."""
    found = []
    if not places and set(a) != set(b):
        found.append(f"only one has the stages {', '.join(sorted(set(a) ^ set(b)))}")
    for name in a:
        if name in b and a[name] != b[name]:
            left, right = (_without(name, recipe[name], places) for recipe in (a, b))
            found += [f"{name}: {line}" for line in differences(left, right)]
    return found


def of_run(outcome: Outcome) -> str:
    """`seed 3, learning_rate 1e-05`."""
    settings = described(outcome.settings)
    return f"seed {outcome.seed}" + (f", {settings}" if settings else "")


def _without(name: str, stage: Recipe, places: Sequence[str]) -> dict[str, Any]:
    """A stage's recipe without what the places decide.

    A place of the stage itself may exchange what the stage reads (`rows: other`), and one of a
    `repeat` block or of `variables` can decide anything in it.
    """
    left = {**stage, "models": dict(stage.get("models", {}))}
    for place in places:
        section, *rest = place.split(".")
        if section == "models":
            for model, identity in left["models"].items():
                is_trained = "weights" not in (identity or {})  # it has its base's engine in it
                if is_trained or model == rest[0]:
                    left["models"][model] = None
            continue
        if section == "variables":
            left["settings"] = _dropped(left.get("settings", {}), ["variables", *rest])
            continue
        plain = name.partition("@")[0]
        own = section == "stages" and rest[:1] == [plain]
        in_block = section == "stages" and "repeat" in rest and "@" in name
        if own and len(rest) > 1:
            settings = _dropped(left.get("settings", {}), rest[1:])
            left = {**left, "settings": settings, "templates": {}, "sources": {}}
            left |= {"inputs": {}, "models": {}}
        elif own or in_block or section not in ("stages", "models"):
            return {}
    return left


def _dropped(settings: Mapping[str, Any], path: Sequence[str]) -> dict[str, Any]:
    found = dict(settings)
    if len(path) == 1 or not isinstance(found.get(path[0]), Mapping):
        found.pop(path[0], None)
    else:
        found[path[0]] = _dropped(found[path[0]], path[1:])
    return found


def _one_of_each_recipe(file: SweepFile) -> list[Outcome]:
    return list({(r.setting, r.recipe): r for r in file.done()}.values())


def _other_items(a: SweepFile, b: SweepFile) -> list[str]:
    """Figures whose items are the same in all runs of a setting within a file, but not in both."""
    left, right = _items(a), _items(b)
    return [
        f"{stage} has other items in one than in the other"
        for (setting, (stage, labels)), digests in left.items()
        for others in [right.get((setting, (stage, labels)), set())]
        if len(digests) == len(others) == 1 and digests != others
    ]


def _items(file: SweepFile) -> dict[tuple[str, Key], set[str]]:
    found: dict[tuple[str, Key], set[str]] = {}
    for outcome in file.done():
        for figure in outcome.figures:
            if figure.items is not None:
                found.setdefault((outcome.setting, figure.key), set()).add(figure.items)
    return found


def _says_the_same(a: Outcome, b: Outcome) -> bool:
    return {f.key: (f.value, f.marks, f.items) for f in a.figures} == {
        f.key: (f.value, f.marks, f.items) for f in b.figures
    }
