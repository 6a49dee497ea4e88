"""What a pipeline reads that is not in its file: is it there? No weights and no rows are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from llm_distill.engines.scripted import ScriptedEngine
from llm_distill.errors import ConfigError, DataError, ModelError, nearest
from llm_distill.models.files import check_model_dir
from llm_distill.paths import find_resource
from llm_distill.pipeline.problems import Path as Place
from llm_distill.pipeline.problems import Problems
from llm_distill.pipeline.schema import ModelConfig
from llm_distill.rows.reading import check_is_no_file
from llm_distill.stage import Stage
from llm_distill.tracking import Tracker, not_installed


def check_model(name: str, config: ModelConfig, problems: Problems) -> None:
    """Note a model directory that cannot be loaded, or a scripted model without its answers."""
    if config.engine.kind == "scripted":
        if config.engine.function is None or config.engine.answers is not None:
            try:
                ScriptedEngine(config.engine)
            except ConfigError as error:
                at: Place = () if config.engine.answers is None else ("answers",)
                message = str(error).removeprefix("engine.answers: ")
                problems.add(("models", name, "engine", *at), message)
        return  # a function's module is the user's code: imported when it is asked, not here
    if config.engine.kind == "openai":
        return  # a name on the server, which is asked in the run only
    wanted = config.model_name_or_path
    place: Place = ("models", name, "model_name_or_path")
    path = find_resource(wanted)
    if path is None:
        _check_is_hub_name(wanted, place, problems)
    elif not path.is_dir():
        problems.add(
            place, f"{wanted} is a file; a model is a directory with config.json, or a Hub name"
        )
    else:
        try:
            check_model_dir(path)
        except ModelError as error:
            problems.add(place, str(error))


def _check_is_hub_name(wanted: str, place: Place, problems: Problems) -> None:
    """Note a path of which nothing is there, where it would otherwise be taken for a Hub name."""
    if wanted[:1] in (".", "~") or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", wanted):
        folder = find_resource(str(Path(wanted).parent))
        there = folder.iterdir() if folder is not None and folder.is_dir() else ()
        models = (str(Path(wanted).parent / p.name) for p in there if p.is_dir())
        hint = nearest(wanted, models).replace("allowed:", "there are:")
        problems.add(place, f"no directory {wanted}, and it is no Hub name; {hint}")


def check_data(name: str, stage: Stage, problems: Problems) -> None:
    """Note a file that is not there, where a stage would otherwise take it for a Hub name."""
    for model, _ in stage.hub_models():
        _check_is_hub_name(model, ("stages", name, *place_of(model, stage)), problems)
    for path, _ in stage.hub_datasets():
        try:
            if find_resource(path) is None:
                check_is_no_file(path)
        except DataError as error:
            problems.add(("stages", name, *place_of(path, stage)), str(error))


def check_trackers(tracker: Tracker, stages: Mapping[str, Stage], problems: Problems) -> None:
    """Note a tracker whose package is missing: a training must not find that out after hours."""
    named: dict[Place, Tracker] = {("report_to",): tracker}
    for name, stage in stages.items():
        if "report_to" in stage.model_fields_set:
            named[("stages", name, "report_to")] = dict(stage)["report_to"] or "none"
    for place, wanted in named.items():
        message = not_installed(wanted)
        if message is not None:
            problems.add(place, message)


def place_of(text: str, stage: Stage) -> Place:
    """Where among a stage's settings a text stands: ("template",), or ("template", "recall")."""
    for field, value in stage:
        if value == text:
            return (field,)
        for key, inner in value.items() if isinstance(value, dict) else ():
            if inner == text:
                return (field, key)
    return ()
