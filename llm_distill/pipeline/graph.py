"""The graph is read off the stages' references and checked: names, kinds, order, columns."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from graphlib import CycleError, TopologicalSorter
from typing import Any

from llm_distill.errors import ConfigError, nearest
from llm_distill.pipeline.check_engines import check_engines
from llm_distill.pipeline.check_until import check_until
from llm_distill.pipeline.names import Names
from llm_distill.pipeline.outside import check_data, check_model, place_of
from llm_distill.pipeline.problems import Path as Place
from llm_distill.pipeline.problems import Problems, parts
from llm_distill.pipeline.rounds import End, Rounds
from llm_distill.pipeline.schema import ModelConfig
from llm_distill.prompts import load_template
from llm_distill.rows.columns import COLUMNS, SEED
from llm_distill.stage import Columns, Stage, Values, models_of, references, rows_of


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


def without_unread(
    stages: Mapping[str, Stage],
    ends: Mapping[tuple[str, str], End],
    watched: Iterable[str] = (),
) -> dict[str, Stage]:
    """Without the optional stages that no stage that is kept reads, in their order.

    ends: references that may come to mean any round. watched: what repeats look at themselves.
    """
    kept = set(watched)
    for name in reversed(list(stages)):  # what reads a stage comes after it
        if name in kept or not stages[name].optional:
            kept.update((name, *upstream(stages[name], stages)))
            of_it = [end for (reader, _), end in ends.items() if reader == name]
            kept.update(f"{end.stage}@{n}" for end in of_it for n in end.block.numbers)
    return {name: stage for name, stage in stages.items() if name in kept}


def base_model(name: str, stages: Mapping[str, Stage]) -> str:
    """The entry under `models:` that a model or a trained stage goes back to."""
    while name in stages:
        name = models_of(stages[name])[0]
    return name


def training_inputs(name: str, stages: Mapping[str, Stage]) -> list[str]:
    """The stages whose rows a model was trained on, from what it is now back to its base."""
    found: list[str] = []
    while name in stages:
        found.extend(rows_of(stages[name]))
        name = models_of(stages[name])[0]
    return list(dict.fromkeys(found))


def check_graph(
    stages: Mapping[str, Stage],
    incomplete: Collection[str],
    raw_stages: Any,
    raw_models: Any,
    models: Mapping[str, ModelConfig],
    variables: Mapping[str, Any],
    rounds: Rounds,
    problems: Problems,
    *,
    has_run: bool = False,
) -> dict[str, Stage]:
    """Note every reference, column, template, model or file that does not fit.

    Args:
        incomplete: the stages with wrong settings, which are None here; of these only references
            and templates are checked.
        raw_stages, raw_models: the file's own, with every `repeat` unrolled. A stage of an unknown
            kind counts as declared, so that one mistake is not reported for each stage after it.
        has_run: what is outside the file, such as data, is not looked for.

    Returns:
        The stages, each with those of the pipeline's `variables` that its templates read.
    """
    declared = list(raw_stages) if isinstance(raw_stages, dict) else []
    model_names = list(raw_models) if isinstance(raw_models, dict) else []
    for name in model_names:
        if name in declared or name in rounds.blocks:
            problems.add(("models", name), f"'{name}' is also a stage; names must differ")
        elif "@" in str(name):
            problems.add(("models", name), "a model's name cannot have '@', which marks a round")
    for name, config in models.items() if not has_run else ():
        check_model(name, config, problems)
    names = Names(stages, declared, models, model_names, rounds)
    bad_starts = _check_starts(names, problems)
    cycles = _cycles(stages)
    columns: dict[str, Columns] = {}
    values: dict[str, Values] = {}
    complete = dict(stages)
    for name, stage in stages.items():
        cycle = cycles.get(name, [])
        if cycle and cycle[0] == name:  # reported once, at its first stage
            circle = " → ".join(rounds.written(each, name) for each in [*cycle, name])
            problems.add(("stages", name), f"stages refer to each other in a circle: {circle}")
        for place, target, kind in references(stage):
            loads = stage.loads(place)
            instead = stage.if_served(place) if kind == "model" else None
            message = names.misfit(target, kind, name, needs_weights=loads, if_served=instead)
            is_said = target in cycle or (name, place) in bad_starts
            if message is not None and not is_said:
                problems.add(("stages", name, *parts(place)), message)
        columns[name] = None
        if name in incomplete:
            for inner, template in _templates_named_in(raw_stages[name]):
                _check_template(("stages", name, *inner), template, None, problems)
        else:
            if not has_run:
                check_data(name, stage, problems)
            inputs = {target: columns.get(target) for target in rows_of(stage)}
            complete[name] = _with_variables(stage, variables, inputs)
            columns[name] = _check_columns(
                name, complete[name], inputs, variables, rounds, problems
            )
            held = {target: values.get(target, {}) for target in inputs}
            for place, message in stage.misfits(held):
                problems.add(("stages", name, *parts(place)), message)
            values[name] = stage.output_values(held)
    engines = {name: model.engine.answering() for name, model in models.items()}
    check_until(rounds, stages, columns, model_names, engines, incomplete, problems)
    if not cycles:
        check_engines(stages, models, problems)
    return complete


def _with_variables(
    stage: Stage, variables: Mapping[str, Any], inputs: Mapping[str, Columns]
) -> Stage:
    """The stage with those of the pipeline's constants that its templates read.

    One that reads none stays as it is, and so does its fingerprint. Its own constants win, and so
    do the columns of its rows as far as they are known before a run.
    """
    own = dict(stage).get("variables")
    if not variables or own is None:
        return stage
    read: set[str] = set()
    for template, offered in stage.template_variables(inputs).items():
        with suppress(ConfigError):  # not there or not readable: the graph's check says so
            read |= load_template(template).variables - (own.keys() if offered is None else offered)
    added = {name: value for name, value in variables.items() if name in read}
    return stage.model_copy(update={"variables": {**added, **own}}) if added else stage


def _check_starts(names: Names, problems: Problems) -> set[tuple[str, str]]:
    """Note what a `repeat` cannot start with; returns the references that would resolve to it."""
    rounds, bad = names.rounds, set()
    blocks = {each.block.name: each.block for each in rounds.of.values()}
    for block in blocks.values():
        for stage in block.start:
            place = ("stages", block.name, "repeat", "start", stage)
            message = None
            if stage not in block.stages:
                message = f"no stage '{stage}' in this repeat; {nearest(stage, block.stages)}"
            elif block.start[stage] is not None and f"{stage}@1" in names.stages:
                target, first = rounds.start(block, stage) or "", f"{block.stages[0]}@1"
                kind = names.stages[f"{stage}@1"].output
                message = names.misfit(target, kind, first, at_start=True)
            if message is not None:
                problems.add(place, message)
                bad.add((block.name, stage))
    return {
        at for at, stage in rounds.starts.items() if (rounds.of[at[0]].block.name, stage) in bad
    }


def _cycles(stages: Mapping[str, Stage]) -> dict[str, list[str]]:
    """For each stage on a cycle: the cycle, from its first stage in the file."""
    order = list(stages)
    found: dict[str, list[str]] = {}
    while True:
        reads = {
            name: [target for target in upstream(stage, stages) if target not in found]
            for name, stage in stages.items()
            if name not in found
        }
        try:
            TopologicalSorter(reads).prepare()
        except CycleError as error:
            cycle: list[str] = error.args[1][:0:-1]  # without the first again, reader before read
            start = cycle.index(min(cycle, key=order.index))
            cycle = cycle[start:] + cycle[:start]
            found.update(dict.fromkeys(cycle, cycle))
        else:
            return found


def _check_columns(
    name: str,
    stage: Stage,
    inputs: Mapping[str, Columns],
    variables: Mapping[str, Any],
    rounds: Rounds,
    problems: Problems,
) -> Columns:
    for target, needed in stage.required_columns().items():
        there = inputs.get(target)
        for column in sorted(set(needed) - there) if there is not None else ():
            field = next(f for f, t, _ in references(stage) if t == target)
            problems.add(
                ("stages", name, *parts(field)),
                f"'{rounds.written(target, name)}' gives no column '{column}'; "
                f"{stage.remedy(column) or _what_to_do(column, there or ())}",
            )
    for target, new in stage.columns_that_are_new().items():
        for column in sorted(new.keys() & (inputs.get(target) or set())):
            field = next(f for f, t, _ in references(stage) if t == target)
            problems.add(
                ("stages", name, *parts(field)),
                f"'{rounds.written(target, name)}' gives '{column}' already, and it would be lost; "
                f"{new[column]}",
            )
    for columns in stage.read_as_text().values():
        for column in sorted(columns):
            kind = COLUMNS.get(column, ("string",))[0]
            if kind != "string" and not (kind == "messages" and stage.reads_conversations):
                problems.add(
                    ("stages", name, *place_of(column, stage)),
                    f"the column '{column}' holds {kind}, and is read as text"
                    + ("; several: true reads lists" if _reads_lists(stage, kind) else ""),
                )
    for template, offered in stage.template_variables(inputs).items():
        place = ("stages", name, *place_of(template, stage))
        _check_template(place, template, offered, problems, variables, stage)
    return stage.output_columns(inputs) if stage.output == "rows" else None


def _reads_lists(stage: Stage, kind: str) -> bool:
    return kind.startswith("list") and "several" in type(stage).model_fields


def _what_to_do(column: str, there: Collection[str]) -> str:
    """What to do about a column that is not there, or only for the questions before."""
    name = f"{SEED}{column}"
    if name not in there:
        return nearest(column, there)
    return (
        f"its questions are new, and '{name}' is about those that they were made from; let a stage "
        "give it to the new ones (parse, consensus, label_skills)"
    )


def _how_to_offer(variable: str, stage: Stage | None) -> str:
    if variable == "examples" and stage is not None and "examples" in type(stage).model_fields:
        return "give the stage examples: {rows: …, n: …}; "
    return ""


def _check_template(
    place: Place,
    name: str,
    offered: Columns,
    problems: Problems,
    variables: Iterable[str] = (),
    stage: Stage | None = None,
) -> None:
    try:
        template = load_template(name)
    except ConfigError as error:
        problems.add(place, str(error))
        return
    for variable in sorted(template.variables - offered) if offered is not None else ():
        problems.add(
            place,
            f"template {name} reads '{variable}', which is neither a column nor under "
            f"variables:; {_how_to_offer(variable, stage)}"
            f"{nearest(variable, {*(offered or ()), *variables})}",
        )


def _templates_named_in(raw: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    """What an incomplete stage has under `template`, `prompt_template` and the like."""
    for field, value in raw.items():
        if field == "template" or str(field).endswith("_template"):
            named = value.items() if isinstance(value, dict) else [(None, value)]
            for key, name in named:
                if isinstance(name, str):
                    yield (field,) if key is None else (field, key), name
