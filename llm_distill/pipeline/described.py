"""Settings in words, read off their types: for `llm-distill stages` and the reference pages."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

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
    kind: what it may be, such as `integer, ≥ 1`.
    about: what it means. value: its default; settings of its own where it has some.
    """

    name: str
    kind: str
    about: str
    value: Any = None
    required: bool = False
    affects_result: bool = True

    @property
    def default(self) -> str:
        """As Python writes it, but `null`; `required`, or nothing for settings of its own."""
        if self.required:
            return "required"
        if self.value is None:
            return "null"
        return "" if isinstance(self.value, BaseModel) else repr(self.value)

    @property
    def meaning(self) -> str:
        return self.about + " (does not change the result)" * (not self.affects_result)


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
        required = given is None and field.is_required()
        value = None if required else _value(name, field, given)
        extra = field.json_schema_extra
        yield Setting(
            f"{prefix}{name}",
            _kind(field),
            field.description or "",
            value,
            required,
            not isinstance(extra, dict) or extra.get("affects_result") is not False,
        )
        for inner in settings_in(field.annotation):
            instead = value if isinstance(value, inner) else None
            yield from described(inner, f"{prefix}{name}.", instead)


def _value(name: str, field: FieldInfo, given: BaseModel | None) -> Any:
    if given is not None:
        return getattr(given, name)
    return field.get_default(call_default_factory=True)


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


def running_text(kind: type[BaseModel]) -> str:
    """A docstring without its line breaks, paragraph by paragraph."""
    paragraphs = inspect.cleandoc(kind.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(each.split()) for each in paragraphs)
