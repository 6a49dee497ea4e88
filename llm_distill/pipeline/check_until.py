"""Whether what ends a `repeat` can be measured in its rounds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping

from llm_distill.engines.openai.settings import OpenAISettings
from llm_distill.engines.settings import EngineSettings
from llm_distill.errors import nearest
from llm_distill.pipeline.check_engines import back_to_base
from llm_distill.pipeline.problems import Path as Place
from llm_distill.pipeline.problems import Problems
from llm_distill.pipeline.rounds import Block, Rounds
from llm_distill.stage import Asked, Columns, Stage, models_of, references

WRITTEN: frozenset[Asked] = frozenset({"text", "structure", "adapters"})
"""What has a model write; of the others it has no tokens to count."""


def check_until(
    rounds: Rounds,
    stages: Mapping[str, Stage],
    columns: Mapping[str, Columns],
    models: Collection[str],
    engines: Mapping[str, EngineSettings],
    incomplete: Collection[str],
    problems: Problems,
) -> None:
    """Note what `until` names that is not there, measures something else, or never ends a round.

    columns: by stage, as far as they are known. models: the names under `models:`. engines: of
    those that are valid. incomplete: stages with a mistake of their own.
    """
    blocks = {each.block.name: each.block for each in rounds.of.values()}
    for block in blocks.values():
        if block.until is None:
            continue
        place: Place = ("stages", block.name, "repeat", "until")
        asked = _asked(block, stages, incomplete)
        writers = {name for name, what in (asked or {}).items() if what & WRITTEN} & {*models}
        for model in block.until.tokens:
            if model not in models:
                hint = nearest(model, models)
                problems.add((*place, "tokens", model), f"no model '{model}'; {hint}")
            elif asked is not None and model not in writers:
                problems.add(
                    (*place, "tokens", model),
                    f"no stage of this repeat has '{model}' write, so its tokens never end it; "
                    f"{nearest(model, writers)}",
                )
        # A trained model is asked on the server of its base.
        bases = None if asked is None else {back_to_base(name, stages)[1] for name in asked}
        known = [engine for model, engine in engines.items() if bases is None or model in bases]
        if block.until.cost is not None and not any(map(_costs, known)):
            problems.add(
                (*place, "cost"),
                "no model that this repeat asks has a price, so no round costs anything; set "
                "engine.price of a server that it asks",
            )
        if block.until.watch:  # not of an `until` with mistakes
            _check_watched(block, block.until.watch, stages, columns, place, problems)


def _asked(
    block: Block, stages: Mapping[str, Stage], incomplete: Collection[str]
) -> dict[str, set[Asked]] | None:
    """By model, what the stages of its rounds want of it; None: one of them has a mistake."""
    found: dict[str, set[Asked]] = defaultdict(set)
    for name in (f"{stage}@{number}" for number in block.numbers for stage in block.stages):
        if name not in stages or name in incomplete:
            return None
        for place, target, kind in references(stages[name]):
            wanted = stages[name].asks(place) if kind == "model" else None
            if wanted is not None:
                found[target].add(wanted)
    return found


def _check_watched(
    block: Block,
    watch: str,
    stages: Mapping[str, Stage],
    columns: Mapping[str, Columns],
    place: Place,
    problems: Problems,
) -> None:
    assert block.until is not None
    if watch not in block.stages:
        message = f"no stage '{watch}' in this repeat; {nearest(watch, block.stages)}"
        problems.add((*place, "watch"), message)
        return
    name = f"{watch}@1"
    if name not in stages:
        return  # its own settings are wrong
    if stages[name].output != "rows":
        problems.add((*place, "watch"), f"'{watch}' gives a model; name an exam of it")
        return
    asked = models_of(stages[name])
    if asked and watched_model(block, stages[name], 1) is None:
        problems.add(
            (*place, "watch"),
            f"'{watch}' measures {', '.join(asked)}, none of which its own round has trained; "
            "rounds are compared by what each has trained",
        )
    target = block.until.target
    if target is not None and target > 1 and block.until.column == "is_correct":
        problems.add((*place, "target"), f"{target:g} is never reached: a share, 0.9 for 90 %")
    there = columns.get(name)
    if there is not None and block.until.column not in there:
        hint = nearest(block.until.column, there)
        problems.add(
            (*place, "column"), f"'{watch}' gives no column '{block.until.column}'; {hint}"
        )


def _costs(engine: EngineSettings) -> bool:
    price = engine.price if isinstance(engine, OpenAISettings) else None
    return price is not None and bool(price.input or price.output)


def watched_model(block: Block, stage: Stage, number: int) -> str | None:
    """The first of the models that a stage of a round measures which the round has trained."""
    return next((name for name in models_of(stage) if block.has(name) == number), None)
