"""Whether the engines of a pipeline's models can do what its stages ask of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from llm_distill.engines.kinds import kinds_that_can
from llm_distill.pipeline.problems import Path as Place
from llm_distill.pipeline.problems import Problems, parts
from llm_distill.pipeline.schema import ModelConfig
from llm_distill.stage import Stage, models_of, references

WANTED = {
    "structure": "structured output",
    "likelihoods": "likelihoods of given texts",
    "likeliest": "likeliest tokens of given texts",
    "adapters": "adapters that are loaded while it serves (adapters: hot_load)",
}
"""What an engine lacks, by what a stage `asks` of it."""


def check_engines(
    stages: Mapping[str, Stage], models: Mapping[str, ModelConfig], problems: Problems
) -> None:
    """Note engines that cannot do what a stage asks of them."""
    for name, stage in stages.items():
        for place, target, kind in references(stage):
            asked = stage.asks(place) if kind == "model" else None
            trained, model = back_to_base(target, stages)
            if asked is None or model not in models:
                continue
            engine = models[model].engine.answering()
            if engine.takes_adapters_alone:
                _check_adapters(("stages", name, *parts(place)), trained, model, stages, problems)
            if asked == "adapters" and engine.can(asked):
                _check_writing(name, place, model, stages, models, problems)
                continue
            if engine.can(asked):
                continue
            wanted = WANTED[asked]
            problems.add(
                ("stages", name, *parts(place)),
                f"'{target}' has the engine kind {engine.kind}, which has no {wanted}"
                f"; set models.{model}.engine.kind to {' or '.join(kinds_that_can(asked))}",
            )


def back_to_base(name: str, stages: Mapping[str, Stage]) -> tuple[list[str], str]:
    """The trained models below a name, itself among them, and the entry that they go back to.

    Unlike `base_model` of a file that may be incomplete, where the entry may be missing, or stages
    go in a circle.
    """
    trained: list[str] = []
    while name in stages and stages[name].output == "model" and name not in trained:
        trained.append(name)
        name = next(iter(models_of(stages[name])), "")
    return trained, name


def _check_writing(
    name: str,
    at: str,
    model: str,
    stages: Mapping[str, Stage],
    models: Mapping[str, ModelConfig],
    problems: Problems,
) -> None:
    """Note why the server of `model` cannot write for what is trained at a place of a stage."""
    stage, engine = stages[name], models[model].engine.answering()
    for place, target, kind in references(stage):
        where = ("stages", name, *parts(place))
        is_asked = kind == "model" and stage.asks(place) is not None
        if place == at and not engine.takes_adapters_alone:
            problems.add(
                where,
                f"'{target}' is to write while it is trained (rollouts.writer: engine), for which "
                f"its server has to load adapters; set models.{model}.engine.adapters: hot_load",
            )
        elif place != at and is_asked:
            base = back_to_base(target, stages)[1]
            if target in stages and base == model:
                problems.add(
                    where,
                    f"'{target}' is an adapter on the server that writes what is trained, which "
                    "takes it out as others are loaded; merge it (merge_adapter) and serve that, "
                    "or ask another server",
                )
            elif base in models and not models[base].engine.lies_apart(engine):
                problems.add(
                    where,
                    f"'{target}' and '{model}', which writes what is trained, both take memory of "
                    "this machine, and one would be stopped for the other in each step; give both "
                    "engine.kind: vllm_server with gpus of its own, or ask one at an address "
                    "(kind: openai)",
                )


def _check_adapters(
    place: Place,
    trained: Iterable[str],
    model: str,
    stages: Mapping[str, Stage],
    problems: Problems,
) -> None:
    """Note what cannot be loaded into the server of `model`, which the trained ones go back to."""
    for name in trained:
        why = stages[name].why_no_adapter()
        if why is not None:
            problems.add(
                place,
                f"'{name}' cannot be laid over '{model}' on its server (engine.adapters: hot_load):"
                f" {why}; train a plain LoRA adapter (peft), or ask it with another engine",
            )
            return
