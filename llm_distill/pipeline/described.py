"""Settings in words, read off their types: for `llm-distill stages` and the reference pages."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from llm_distill.stage import Reference

_TYPES = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    Any: "anything",
    type(None): "null",
}
_LIMITS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
TAGS = ("by", "kind")
"""Settings that say which of several kinds of settings the others belong to."""


@dataclass(frozen=True)
class Setting:
    """A setting in words.

    name: with the settings that it is in, `sampling.temperature`.
    kind: what it may be, such as `integer, ≥ 1`. default: as Python writes it; `required` where it
    must be given, and empty where it is settings of its own.
    """

    name: str
    kind: str
    default: str
    meaning: str


def described(
    settings: type[BaseModel], prefix: str = "", given: BaseModel | None = None
) -> Iterator[Setting]:
    """All settings, those within others after them; of several kinds each with its own.

    given: what stands there unless something is set; else each setting has its own default.
    """
    for name in _in_reading_order(settings):
        if not prefix and name == "stage":
            continue
        field = settings.model_fields[name]
        default = (
            field.get_default(call_default_factory=True) if given is None else getattr(given, name)
        )
        yield Setting(f"{prefix}{name}", _kind(field), _default(default, field), _meaning(field))
        for inner in settings_in(field.annotation):
            instead = default if isinstance(default, inner) else None
            yield from described(inner, f"{prefix}{name}.", instead)


def settings_in(annotation: Any) -> list[type[BaseModel]]:
    """The settings classes inside `X | None`, `dict[str, X]` or `X | Y`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in settings_in(argument)]


def _in_reading_order(settings: type[BaseModel]) -> list[str]:
    """What must be given, then the class's own settings, then those that it shares with others."""
    own = inspect.get_annotations(settings)
    return sorted(
        settings.model_fields,
        key=lambda name: (
            name not in TAGS,
            not settings.model_fields[name].is_required(),
            name not in own,
        ),
    )


def _meaning(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    is_execution = isinstance(extra, dict) and extra.get("affects_result") is False
    return (field.description or "") + " (does not change the result)" * is_execution


def _kind(field: FieldInfo) -> str:
    limits = [
        f"{sign} {value:g}" if isinstance(value, int | float) else f"{sign} {value}"
        for item in field.metadata
        for name, sign in _LIMITS.items()
        if (value := getattr(item, name, None)) is not None
    ]
    return ", ".join([_type_name(field.annotation, field.metadata), *limits])


def _type_name(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """A type in words: `list of text`, `'low' or 'high'`, `text or null`."""
    for item in metadata:
        if isinstance(item, Reference):
            return "a stage's rows" if item.to == "rows" else "a model"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_name(arguments[0], arguments[1:])
    if origin in (list, tuple):
        return f"list of {_type_name(arguments[0])}"
    if origin is dict:
        return f"mapping of {_type_name(arguments[1])}"
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if arguments:  # X | Y
        return " or ".join(dict.fromkeys(map(_type_name, arguments)))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "settings"
    return _TYPES.get(annotation) or str(getattr(annotation, "__name__", annotation))


def _default(value: Any, field: FieldInfo) -> str:
    if value is None:
        return "null"
    if value is PydanticUndefined:
        return "required" if field.is_required() else ""
    return "" if isinstance(value, BaseModel) else repr(value)
