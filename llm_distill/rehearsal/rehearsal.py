"""A pipeline file in which everything that costs is replaced, and every count is as written.

Kept: stages, rows and their order, counts, quantiles, batch sizes, steps, filters, templates.
Replaced: models (`models`), datasets (`datasets`). Left out: devices, precision, stages that need
the Hub itself or change something outside the workspace, and likelihoods under a trained model that
also writes texts: what stands in for it writes by a script, which has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import gcd
from pathlib import Path
from typing import Any

import yaml

from llm_distill.distillation.losses.loss import Needs
from llm_distill.distillation.relations.settings import RelationSettings
from llm_distill.errors import ConfigError, LLMDistillError
from llm_distill.pipeline.graph import base_model, dependants
from llm_distill.pipeline.repeat import is_block
from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.rehearsal import datasets, models
from llm_distill.rehearsal.columns import needed_columns
from llm_distill.stage import Stage, references
from llm_distill.stages.load_dataset import LoadDataset
from llm_distill.stages.make_student import MakeStudent
from llm_distill.stages.train_distill import TrainDistill
from llm_distill.stages.train_relations import TrainRelations
from llm_distill.training.settings import HeldOutSettings

NEED_THE_HUB = ("evaluate_lm_eval",)
DEVICES = ("launch", "bf16", "quantization", "gradient_checkpointing", "report_to")
"""Settings of a training that are about devices."""
DEVICE_ARGUMENTS = ("optim", "fp16", "tf32", "fsdp", "fsdp_config", "deepspeed", "torch_compile")
"""Of `trainer_arguments`."""
WEIGHTS = "_weights"
"""What follows the name of a model whose likelihoods are asked for: a script has none."""
FILE = "rehearsal.yaml"
GUARDS = {"max_truncated", "max_repetition", "max_growth", "max_empty", "min_shared"}
"""Of what a student writes; a stand-in writes anything."""
MOST_AT_ONCE = 32
"""Rows in one pass: long ones by the hundred take more memory than a laptop has. Packed ones stay
as they are written: those of a pass are one sequence."""


def write_rehearsal(
    pipeline: PipelineConfig,
    folder: Path,
    told: Mapping[str, int],
    max_steps: int | None = None,
) -> tuple[Path, dict[str, list[str]]]:
    """The file, in `folder` with all that it reads, and the stages left out, by what they need.

    told: rows of datasets, see `datasets.rows_of`. max_steps: of each training, if
    not its own.

    Raises:
        ConfigError: a dataset's size is not known, or nothing is left; it names the stage.
    """
    values = _plain(pipeline.resolved)
    left_out, checked = _left_out(pipeline), _by_name(pipeline)
    unread = {name.partition("@")[0] for name in pipeline.unread} - checked.keys()  # in any round
    _remove(values["stages"], {*(name for names in left_out.values() for name in names), *unread})
    if not values["stages"]:
        raise ConfigError(
            f"{pipeline.source}: nothing to rehearse; every stage needs {' or '.join(left_out)}"
        )
    _forget_costs(values["stages"])
    given = values.get("models") or {}
    needed = needed_columns(pipeline)
    one = any(map(_compares_tokens, checked.values()))
    values["models"] = {
        name: models.entry(own, folder, index, one_tokenizer=one)
        for index, (name, own) in enumerate(given.items())
    }
    for name, own in each_stage(values["stages"]):
        stage = checked[name]
        if isinstance(stage, LoadDataset):
            try:
                own.update(_dataset(stage, name, folder, needed[name], told))
            except LLMDistillError as error:
                raise ConfigError(f"{pipeline.source}: stage '{name}': {error}") from error
        _replace_models(stage, own, values["models"], folder, pipeline)
        _replace_devices(stage, own)
        _replace_layers(stage, own)
        if max_steps is not None and "max_steps" in type(stage).model_fields:
            own["max_steps"] = max_steps
    for key in ("profiles", "report_to"):
        values.pop(key, None)
    file = folder / FILE
    file.write_text(yaml.safe_dump(values, sort_keys=False, width=100), encoding="utf-8")
    return file, left_out


def each_stage(stages: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The name and settings of each, those within a `repeat` too."""
    for name, own in stages.items():
        if is_block(own):
            yield from each_stage(own["repeat"]["stages"])
        else:
            yield name, own


def _by_name(pipeline: PipelineConfig) -> dict[str, Stage]:
    """Of a `repeat` the first round's."""
    found: dict[str, Stage] = {}
    for name, stage in pipeline.stages.items():
        found.setdefault(name.partition("@")[0], stage)
    return found


def _left_out(pipeline: PipelineConfig) -> dict[str, list[str]]:
    """Stages that cannot be rehearsed, and what reads them, by what they need; as written."""
    found: dict[str, str] = {}
    bases = {
        base_model(target, pipeline.stages)
        for stage in pipeline.stages.values()
        for target in _asked(stage, "text")
    }
    for name, stage in pipeline.stages.items():
        trained = [each for each in _asked(stage, "likelihoods") if each in pipeline.stages]
        reached = dependants(name, pipeline.stages)
        why = None
        if stage.stage in NEED_THE_HUB or stage.is_repeated:
            why = "the Hub"
        elif reached == {name} and any(
            base_model(each, pipeline.stages) in bases for each in trained
        ):
            why = "likelihoods of what writes by a script"  # where more follows, texts are random
        if why is not None:
            found = dict.fromkeys((each.partition("@")[0] for each in reached), why) | found
    names = dict.fromkeys(name.partition("@")[0] for name in pipeline.stages)  # in their order
    return {
        why: [name for name in names if found.get(name) == why]
        for why in dict.fromkeys(found.values())
    }


def _asked(stage: Stage, what: str) -> list[str]:
    """The models that a stage asks for text or likelihoods."""
    found = [(place, target) for place, target, kind in references(stage) if kind == "model"]
    return [target for place, target in found if stage.asks(place) == what]


def _remove(stages: dict[str, Any], names: set[str]) -> None:
    for name in list(stages):
        inner = stages[name]["repeat"]["stages"] if is_block(stages[name]) else None
        if inner is not None:
            _remove(inner, names)
        if name in names or inner == {}:
            del stages[name]


def _forget_costs(stages: Mapping[str, Any]) -> None:
    """A stand-in costs nothing, so no budget of a `repeat` would ever be spent."""
    for own in stages.values():
        if is_block(own):
            until = own["repeat"].get("until") or {}
            until.pop("cost", None)
            if not until:
                own["repeat"].pop("until", None)
            _forget_costs(own["repeat"]["stages"])


def _dataset(
    stage: LoadDataset, name: str, folder: Path, needed: Mapping[str, str], told: Mapping[str, int]
) -> dict[str, Any]:
    place = folder / "datasets" / name
    if stage.hub_datasets():
        return datasets.of_the_hub(stage, place, needed, told)
    return datasets.of_this_machine(stage, place)


def _replace_models(
    stage: Stage,
    own: dict[str, Any],
    entries: dict[str, dict[str, Any]],
    folder: Path,
    pipeline: PipelineConfig,
) -> None:
    """Models that stand in for those of a stage which judge steps, embed, or give likelihoods."""
    if stage.stage == "select_similar":
        own.update(model=str(models.make(folder, 0)), revision=None)  # it embeds questions
    for place, target, kind in references(stage):
        if kind != "model":
            continue
        holder, _, key = place.rpartition(".")
        within = own.get(holder, {}) if holder else own  # the settings that have the place
        if place == "difficulty.model":
            reward = models.make_reward(folder, own["difficulty"])
            entries[target] = {"model_name_or_path": str(reward)}
        elif stage.asks(place) == "likelihoods" and within.get(key) in entries:
            entries[target + WEIGHTS] = {**entries[target], "engine": {"kind": "transformers"}}
            within[key] = target + WEIGHTS
        elif stage.asks(place) == "adapters":  # a stand-in has no server: it writes where it learns
            own["rollouts"] = {**own["rollouts"], "writer": "training", "reload_every": 1}
        elif stage.asks(place) == "likelihoods":
            entries[base_model(target, pipeline.stages)].pop("engine", None)


def _compares_tokens(stage: Stage) -> bool:
    """Whether teacher and student need the same tokenizer."""
    if isinstance(stage, TrainRelations):
        return True
    return isinstance(stage, TrainDistill) and bool(stage.losses.needing(Needs.DISTRIBUTIONS))


def _replace_devices(stage: Stage, own: dict[str, Any]) -> None:
    """A step has as many rows, of one process. A random model has no habits."""
    for setting in DEVICES:
        own.pop(setting, None)
    for argument in DEVICE_ARGUMENTS:
        (own.get("trainer_arguments") or {}).pop(argument, None)
    if "gradient_accumulation_steps" in own and not own.get("packing"):
        rows = own.pop("gradient_accumulation_steps") * own.get("per_device_train_batch_size", 8)
        at_once = rows if rows <= MOST_AT_ONCE else gcd(rows, MOST_AT_ONCE)
        own["per_device_train_batch_size"] = at_once
        if at_once < rows:
            own["gradient_accumulation_steps"] = rows // at_once
    if "on_collapse" in type(stage).model_fields:
        own["on_collapse"] = "ignore"
    own.update(dict.fromkeys(GUARDS.intersection(type(stage).model_fields)))
    if isinstance(own.get("judge"), dict):
        own["judge"].pop("labelled", None)  # a stand-in agrees with nobody
    if stage.stage == "agreement":
        own.pop("minimum", None)
        own.pop("on_failure", None)
    if stage.stage == "judge":
        own.pop("min_agreement", None)
    if stage.stage == "gate":
        own.update(require="not_worse", tolerance=0.999)  # nor is one better than another


def _replace_layers(stage: Stage, own: dict[str, Any]) -> None:
    """A stand-in has one layer, of a width of its own."""
    if isinstance(stage, MakeStudent):
        own.update(layers=[1] if stage.layers else None, config=None if stage.layers else {})
    if isinstance(stage, TrainRelations):
        for setting in RelationSettings.model_fields.keys() - HeldOutSettings.model_fields.keys():
            own.pop(setting, None)


def _plain(value: Any) -> Any:
    """A copy without aliases, of lists and mappings."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
