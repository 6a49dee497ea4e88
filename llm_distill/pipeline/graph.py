"""The graph is read off the stages' references and checked: names, kinds, order, columns."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from llm_distill.errors import ConfigError, nearest
from llm_distill.pipeline.outside import check_data, check_model, place_of
from llm_distill.pipeline.problems import Path as Place
from llm_distill.pipeline.problems import Problems
from llm_distill.pipeline.schema import ModelConfig
from llm_distill.prompts import load_template
from llm_distill.stage import Columns, Stage, references


def upstream(stage: Stage, stages: Mapping[str, Stage]) -> list[str]:
    """The stages that a stage refers to, each once, in field order."""
    names = [name for _, name, _ in references(stage) if name in stages]
    return list(dict.fromkeys(names))


def dependants(name: str, stages: Mapping[str, Stage]) -> set[str]:
    """The stage and everything that depends on it."""
    reached = {name}
    for other, stage in stages.items():  # file order: what it refers to came before
        if reached.intersection(upstream(stage, stages)):
            reached.add(other)
    return reached


def base_model(name: str, stages: Mapping[str, Stage]) -> str:
    """The entry under `models:` that a model or a trained stage goes back to."""
    while name in stages:
        name = next(target for _, target, kind in references(stages[name]) if kind == "model")
    return name


def training_inputs(name: str, stages: Mapping[str, Stage]) -> list[str]:
    """The stages whose rows a model was trained on, from what it is now back to its base."""
    found: list[str] = []
    while name in stages:
        found.extend(target for _, target, kind in references(stages[name]) if kind == "rows")
        name = next(target for _, target, kind in references(stages[name]) if kind == "model")
    return list(dict.fromkeys(found))


def check_graph(
    stages: Mapping[str, Stage],
    incomplete: Collection[str],
    raw_stages: Any,
    raw_models: Any,
    models: Mapping[str, ModelConfig],
    problems: Problems,
) -> None:
    """Note every reference, column, template, model or file that does not fit.

    Of an `incomplete` stage (settings of it are wrong, and None here) the references and templates
    are checked. `raw_stages` and `raw_models` are the file's own: a stage of an unknown kind counts
    as declared, so that one mistake gives one problem and not one for each stage behind it.
    """
    declared = list(raw_stages) if isinstance(raw_stages, dict) else []
    model_names = list(raw_models) if isinstance(raw_models, dict) else []
    for name in declared:
        if name in model_names:
            problems.add(("models", name), f"'{name}' is also a stage; names must differ")
    for name, config in models.items():
        check_model(name, config, problems)
    cycles = _cycles(stages)
    columns: dict[str, Columns] = {}
    for name, stage in stages.items():
        cycle = cycles.get(name, [])
        if cycle and cycle[0] == name:  # said once, at its first stage
            circle = " → ".join([*cycle, name])
            problems.add(("stages", name), f"stages refer to each other in a circle: {circle}")
        for place, target, kind in references(stage):
            loads = stage.loads(place)
            message = _misfit(name, target, kind, loads, stages, declared, model_names, models)
            if message is not None and target not in cycle:
                problems.add(("stages", name, *_place(place)), message)
        columns[name] = None
        if name in incomplete:
            for inner, template in _templates_named_in(raw_stages[name]):
                _check_template(("stages", name, *inner), template, None, problems)
        else:
            check_data(name, stage, problems)
            columns[name] = _check_columns(name, stage, columns, problems)


def _misfit(
    name: str,
    target: str,
    kind: str,
    needs_weights: bool,
    stages: Mapping[str, Stage],
    declared: list[str],
    model_names: list[str],
    models: Mapping[str, ModelConfig],
) -> str | None:
    """Why stage `name` cannot refer to `target` where `kind` (rows or model) is needed."""
    served = {model for model, config in models.items() if config.engine.kind == "openai"}
    wanted = "rows" if kind == "rows" else "a model"
    earlier = declared[: declared.index(name)]
    allowed = [other for other in earlier if other in stages and stages[other].output == kind]
    if kind == "model":
        allowed += [m for m in model_names if not (needs_weights and m in served)]
    hint = nearest(target, allowed)
    if kind == "model" and needs_weights and target in served:
        return f"'{target}' is behind a server (engine kind openai): no weights to load; {hint}"
    if target in model_names:
        return None if kind == "model" else f"'{target}' is a model; rows are needed here; {hint}"
    if target not in declared:
        noun = "stage" if kind == "rows" else "model, nor a stage that trains one, named"
        return f"no {noun} '{target}'; {hint}"
    if target in stages and stages[target].output != kind:
        return f"'{target}' gives {stages[target].output}, where {wanted} should be; {hint}"
    if target not in earlier:
        return f"'{target}' comes later in the file; put it before '{name}'"
    return None


def _cycles(stages: Mapping[str, Stage]) -> dict[str, list[str]]:
    """For each stage on a cycle: the cycle, from its first stage in the file."""
    found: dict[str, list[str]] = {}
    for start in stages:
        if start in found:
            continue
        trail = _way_back(start, start, stages, [start], set())
        if trail is not None:
            found.update(dict.fromkeys(trail, trail))
    return found


def _way_back(
    at: str, goal: str, stages: Mapping[str, Stage], trail: list[str], seen: set[str]
) -> list[str] | None:
    for target in upstream(stages[at], stages):
        if target == goal:
            return trail
        if target not in seen:
            seen.add(target)
            found = _way_back(target, goal, stages, [*trail, target], seen)
            if found is not None:
                return found
    return None


def _check_columns(
    name: str, stage: Stage, columns: Mapping[str, Columns], problems: Problems
) -> Columns:
    inputs = {t: columns.get(t) for _, t, kind in references(stage) if kind == "rows"}
    for target, needed in stage.required_columns().items():
        there = inputs.get(target)
        for column in sorted(set(needed) - there) if there is not None else ():
            field = next(f for f, t, _ in references(stage) if t == target)
            problems.add(
                ("stages", name, *_place(field)),
                f"'{target}' gives no column '{column}'; {nearest(column, there or ())}",
            )
    for template, offered in stage.template_variables(inputs).items():
        place = ("stages", name, *place_of(template, stage))
        _check_template(place, template, offered, problems)
    return stage.output_columns(inputs) if stage.output == "rows" else None


def _check_template(place: Place, name: str, offered: Columns, problems: Problems) -> None:
    try:
        template = load_template(name)
    except ConfigError as error:
        problems.add(place, str(error))
        return
    for variable in sorted(template.variables - offered) if offered is not None else ():
        problems.add(
            place,
            f"template {name} reads '{variable}', which is neither a column nor under "
            f"variables:; {nearest(variable, offered or ())}",
        )


def _templates_named_in(raw: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    """What a stage that is not complete has under `template`, `prompt_template` and the like."""
    for field, value in raw.items():
        if field == "template" or str(field).endswith("_template"):
            named = value.items() if isinstance(value, dict) else [(None, value)]
            for key, name in named:
                if isinstance(name, str):
                    yield (field,) if key is None else (field, key), name


def _place(field: str) -> Place:
    """`models[1]` as ("models", 1), `examples.rows` as ("examples", "rows")."""
    return tuple(
        int(part) if part.isdigit() else part for part in re.split(r"[.\[\]]+", field) if part
    )
