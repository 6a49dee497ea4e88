"""Checks that what a pipeline reads from outside its file is there, without reading it."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel

from llm_distill.errors import ConfigError, DataError
from llm_distill.models.files import why_not_a_hub_name
from llm_distill.paths import find_resource
from llm_distill.pipeline.problems import Path as Place
from llm_distill.pipeline.problems import Problems
from llm_distill.pipeline.schema import ModelConfig
from llm_distill.prompts import chat_template
from llm_distill.rows.reading import check_is_no_file
from llm_distill.stage import Stage
from llm_distill.tracking import Tracker, not_installed


def check_model(name: str, config: ModelConfig, problems: Problems) -> None:
    """Note what the model's engine finds, such as weights that cannot be loaded."""
    for place, message in config.engine.check(config.model_name_or_path):
        problems.add(("models", name, *place), message)
    if config.chat_template is not None:
        try:
            chat_template(config.chat_template)
        except ConfigError as error:
            problems.add(("models", name, "chat_template"), str(error))


def check_data(name: str, stage: Stage, problems: Problems) -> None:
    """Note a missing package, or file that a stage would otherwise take for a Hub name."""
    for at, missing in stage.missing():
        problems.add(("stages", name, *at.split(".")), missing)
    for model, _ in stage.hub_models():
        message = why_not_a_hub_name(model)
        if message is not None:
            problems.add(("stages", name, *place_of(model, stage)), message)
    for path, _ in stage.hub_datasets():
        try:
            if find_resource(path) is None:
                check_is_no_file(path)
        except DataError as error:
            problems.add(("stages", name, *place_of(path, stage)), str(error))


def check_trackers(tracker: Tracker, stages: Mapping[str, Stage], problems: Problems) -> None:
    """Note a tracker whose package is missing: a training would only find out after hours."""
    named: dict[Place, Tracker] = {("report_to",): tracker}
    for name, stage in stages.items():
        if "report_to" in stage.model_fields_set:
            named[("stages", name, "report_to")] = dict(stage)["report_to"] or "none"
    for place, wanted in named.items():
        message = not_installed(wanted)
        if message is not None:
            problems.add(place, message)


def place_of(text: str, settings: BaseModel) -> Place:
    """Where a text is among settings: ("template",), ("template", "recall"), ("judge", "template").

    Nowhere (an empty place) if it is a default that the file does not write.
    """
    for field, value in settings:
        if value == text:
            return (field,)
        if isinstance(value, BaseModel) and (inner_place := place_of(text, value)):
            return (field, *inner_place)
        for key, inner in value.items() if isinstance(value, dict) else ():
            if inner == text:
                return (field, key)
            if isinstance(inner, BaseModel) and (inner_place := place_of(text, inner)):
                return (field, key, *inner_place)
    return ()
