"""The pipeline file as a JSON Schema (draft 7), for editors: completion, descriptions, checks.

It is read off the classes of the settings, so it says what `validate` says of settings one by one;
references, columns and templates only `validate` can check. A file that `extends` another has parts
of stages: there nothing is required, and an entry without `stage:` may have any stage's settings.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from llm_distill.pipeline.described import running_text
from llm_distill.pipeline.registry import find_stage
from llm_distill.pipeline.repeat import Repeat
from llm_distill.pipeline.schema import Header, ModelConfig

Schema = dict[str, Any]

TITLE = "A pipeline file of llm-distill"
PART = "-part"
"""Ends the name of a definition in which nothing is required."""
_PLACE = "#/definitions/"
_NAME = r"^[^\s!-/:-@\[-^`{-~]+$"
"""Letters, digits and underscores of any script, in Python's dialect and in JavaScript's."""
_VARIABLE = r"\$\{"
_NUMBER = rf"{_VARIABLE}|^[-+]?[0-9.][-+0-9._eE]*$"
_AS_TEXT = {
    "integer": _NUMBER,
    "number": _NUMBER,
    "boolean": rf"{_VARIABLE}|^([Yy]es|[Nn]o|[Oo]n|[Oo]ff)$",
}
"""What is read as such a value too: `${VAR}`, and what YAML 1.1 and 1.2 differ in, as 1_000."""
_UNSEEN = ("title", "later", "affects_result", "discriminator")
_NOTES = ("description", "default")


def pipeline_schema(names: Iterable[str]) -> Schema:
    """The schema of files whose stages are of these kinds, as JSON values."""
    stages = {name: kind for name in sorted(names) if (kind := find_stage(name)) is not None}
    refs, raw = _raw([Header, ModelConfig, Repeat, *stages.values()])
    definitions = {name: _adapted(each, "") for name, each in raw.items()}
    definitions |= {name + PART: _adapted(each, PART) for name, each in raw.items()}
    for suffix in ("", PART):
        for kind in stages.values():
            own = definitions[refs[kind] + suffix]["properties"]["stage"]
            own["description"] = running_text(kind)
        kinds = {name: _ref(refs[kind] + suffix) for name, kind in stages.items()}
        kind_of_stage = _chosen("stage", kinds)
        if suffix:
            parts = [definitions[refs[kind] + suffix] for kind in stages.values()]
            definitions["any-stage-part"] = _any_of(parts, "stage")
            kind_of_stage = _chosen_or_part("stage", kind_of_stage, _ref("any-stage-part"))
        repeat = definitions[refs[Repeat] + suffix]
        repeat["properties"]["stages"] |= _mapping(_NAME, _ref("kind-of-stage" + suffix))
        definitions["kind-of-stage" + suffix] = kind_of_stage
        definitions["block" + suffix] = {
            "type": "object",
            "additionalProperties": False,
            "properties": {"repeat": _ref(refs[Repeat] + suffix)},
        }
        definitions["stage" + suffix] = {
            "if": {"required": ["repeat"], "not": {"required": ["stage"]}},
            "then": _ref("block" + suffix),
            "else": _ref("kind-of-stage" + suffix),
        }
    header = {n: s for n, s in definitions[refs[Header]]["properties"].items() if n != "models"}
    definitions["profile"] = {
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": header | _sections(refs[ModelConfig], PART),
    }
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": TITLE,
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "extends": {
                "description": "the file, or files, that this one is merged over: one beside it, "
                "or a shipped one such as arte.yaml",
                "type": ["string", "array"],
                "items": {"type": "string"},
            },
            **header,
            "profiles": {
                "description": "by name, what --profile NAME merges over the file",
                **_mapping(".", _ref("profile")),
            },
            "models": {},
            "stages": {},
        },
        "if": {"required": ["extends"]},
        "then": {"properties": _sections(refs[ModelConfig], PART)},
        "else": {
            "required": ["name", "stages"],
            "properties": _sections(refs[ModelConfig], ""),
        },
    }
    return schema | {"definitions": _used(schema, definitions)}


def schema_text(names: Iterable[str]) -> str:
    """The schema as a file has it: a line for each definition."""
    schema = pipeline_schema(names)
    definitions = schema.pop("definitions")
    lines = (f"{json.dumps(name)}: {json.dumps(each)}" for name, each in definitions.items())
    head = json.dumps(schema)[:-1]
    return head + ', "definitions": {\n' + ",\n".join(lines) + "\n}}\n"


def _raw(kinds: Sequence[type[BaseModel]]) -> tuple[dict[Any, str], Schema]:
    """The name of each class's definition, and pydantic's definitions by name."""
    places, schema = models_json_schema(
        [(kind, "validation") for kind in kinds], ref_template=_PLACE + "{model}"
    )
    names = {kind: place["$ref"].removeprefix(_PLACE) for (kind, _), place in places.items()}
    return names, schema["$defs"]


def _ref(name: str) -> Schema:
    return {"$ref": _PLACE + name}


def _mapping(names: str, values: Schema) -> Schema:
    return {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": names},
        "additionalProperties": values,
    }


def _sections(model: str, suffix: str) -> Schema:
    return {
        "models": {
            "description": "the models that stages ask or train",
            "type": "object",
            "additionalProperties": _ref(model + suffix),
        },
        "stages": {
            "description": "what is done, in this order: a stage refers to those before it",
            **_mapping(_NAME, _ref("stage" + suffix)),
        },
    }


def _adapted(schema: Any, suffix: str) -> Any:
    """Pydantic's schema as a file is written; with PART, of a file that changes another."""
    if isinstance(schema, list):
        return [_adapted(each, suffix) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "discriminator" in schema:
        return _of_kind(schema, suffix)
    dropped = {*_UNSEEN, *(("required",) if suffix else ())}
    found: Schema = {}
    for key, value in schema.items():
        if key == "properties":  # their names are settings, such as `required`
            found[key] = {name: _adapted(each, suffix) for name, each in value.items()}
        elif key == "$ref":
            found[key] = value + suffix
        elif key in ("default", "enum", "const"):
            found[key] = value
        elif key not in dropped:
            found[key] = _adapted(value, suffix)
    kind = found.get("type")
    if isinstance(kind, str) and kind in _AS_TEXT and not {"enum", "const"} & found.keys():
        found |= {"type": [kind, "string"], "pattern": _AS_TEXT[kind]}
    if schema.get("affects_result") is False:
        found["description"] = f"{found.get('description', '')} (does not change the result)"
    return found


def _of_kind(schema: Schema, suffix: str) -> Schema:
    """Of several kinds of settings that a tag tells apart, such as an engine's."""
    tag, mapping = schema["discriminator"]["propertyName"], schema["discriminator"]["mapping"]
    kinds = {name: {"$ref": place + suffix} for name, place in mapping.items()}
    chosen = _chosen(tag, kinds)
    if suffix:
        chosen = _chosen_or_part(tag, chosen, {"anyOf": list(kinds.values())})
    return {k: v for k, v in schema.items() if k in _NOTES} | chosen


def _chosen(tag: str, kinds: Mapping[str, Schema]) -> Schema:
    """An object of the kind that its tag names.

    With `if` rather than `oneOf`, so that what is wrong with one kind is said of that kind.
    """
    rules = [
        {"if": {"required": [tag], "properties": {tag: {"const": name}}}, "then": kind}
        for name, kind in kinds.items()
    ]
    named = {tag: {"enum": list(kinds)}}
    return {"type": "object", "required": [tag], "properties": named, "allOf": rules}


def _chosen_or_part(tag: str, chosen: Schema, part: Schema) -> Schema:
    return {"if": {"required": [tag]}, "then": chosen, "else": part}


def _any_of(parts: Sequence[Schema], tag: str) -> Schema:
    """An object with settings of any of these kinds."""
    found: dict[str, list[Schema]] = {}
    for part in parts:
        for name, setting in part["properties"].items():
            found.setdefault(name, []).append(setting)
    settings = {name: _one_of_these(each) for name, each in found.items() if name != tag}
    return {"type": "object", "additionalProperties": False, "properties": settings}


def _one_of_these(settings: Sequence[Schema]) -> Schema:
    """A setting that several kinds have, with what most of them say of it."""
    said = Counter(each.get("description", "") for each in settings).most_common(1)[0][0]
    plain = [{k: v for k, v in each.items() if k not in _NOTES} for each in settings]
    different = list({json.dumps(each, sort_keys=True): each for each in plain}.values())
    setting = different[0] if len(different) == 1 else {"anyOf": different}
    return {"description": said, **setting}


def _used(schema: Any, definitions: Mapping[str, Schema]) -> dict[str, Schema]:
    """The definitions that something refers to, in the order of their names."""
    found: set[str] = set()
    waiting = [schema]
    while waiting:
        each = waiting.pop()
        if isinstance(each, list):
            waiting.extend(each)
        elif isinstance(each, dict):
            waiting.extend(value for key, value in each.items() if key not in ("default", "enum"))
            name = str(each.get("$ref", "")).removeprefix(_PLACE)
            if name in definitions and name not in found:
                found.add(name)
                waiting.append(definitions[name])
    return {name: definitions[name] for name in sorted(found)}
