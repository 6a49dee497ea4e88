"""Pydantic's errors in the words of a pipeline file: what is wrong, and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from pydantic import BaseModel

from llm_distill.errors import nearest, quoted
from llm_distill.hints import Given

_WORDS = {
    "string_type": "should be text",
    "dict_type": "should be a mapping",
    "model_type": "should be a mapping of settings",
    "model_attributes_type": "should be a mapping of settings",
    "list_type": "should be a list",
    "tuple_type": "should be a list",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
}
_MAPPINGS = ("dict_type", "model_type", "model_attributes_type")
_NOT_A_NUMBER = re.compile(r", unable to parse string as an? \w+$")


def explained(item: Any, owner: type[BaseModel] | None, root: type[BaseModel]) -> str:
    """What is wrong. owner: the class of the settings in which it is; root: of the whole stage."""
    kind, value = item["type"], item["input"]
    name = str(item["loc"][-1]) if item["loc"] else ""
    if kind == "extra_forbidden":
        return _unknown(name, value, owner, root)
    if kind == "missing":
        return "is required and missing"
    if kind == "literal_error":
        return f"got {value!r}; allowed: {item['ctx']['expected']}"
    if kind == "union_tag_invalid":
        return f"got {item['ctx']['tag']!r}; allowed: {item['ctx']['expected_tags']}"
    if kind == "union_tag_not_found":
        return f"needs {item['ctx']['discriminator']} to say which kind it is"
    if kind == "invalid_key":
        return (
            f"a setting's name is text, got {value!r}; inside {{…}} a comma ends a value: write a "
            "number without one (1000, not 1,000)"
        )
    if kind in _WORDS:
        return _WORDS[kind]
    if kind == "string_pattern_mismatch" and name == "name":
        return "has letters, digits, '.', '_' and '-' only, and begins with a letter or a digit"
    said = str(item["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    return _NOT_A_NUMBER.sub("", said)


def got(items: Iterable[Any], path: tuple[str | int, ...], owner: type[BaseModel] | None) -> str:
    """What stands there instead, and how it would be written, where that can be told.

    items: the errors of one place. path: of the place. owner: as `explained` takes it.
    """
    kinds = {item["type"] for item in items}
    first = next(iter(items))
    value, name = first["input"], path[-1] if path else ""
    if kinds & {"literal_error", "union_tag_invalid", "extra_forbidden", "missing", "invalid_key"}:
        return ""
    if isinstance(value, list):
        if kinds == {"string_type"}:
            one = value[0] if len(value) == 1 and isinstance(value[0], str) else "one name"
            return f", got a list; write {name}: {one}"
        return ", got a list; leave out the dashes or brackets" if kinds & {*_MAPPINGS} else ""
    if not (isinstance(value, str | int | float | bool) or value is None):
        return ""
    shown = f", got {value!r}"
    if kinds == {"string_type"} and value is not None:
        what = (
            "on, off, yes and no as true or false" if isinstance(value, bool) else "it as a number"
        )
        return f"{shown}: YAML reads {what}; write it in quotes"
    if isinstance(value, str) and kinds <= {"tuple_type", "list_type"}:
        return f"{shown}; write {name}: [{value}]"
    if kinds & {*_MAPPINGS} and owner is not None and isinstance(name, str):
        return shown + _as_mapping(value, name, owner)
    return shown


def _as_mapping(value: Any, name: str, owner: type[BaseModel]) -> str:
    """How settings are written of which only one value, or none, is given."""
    field = owner.model_fields.get(name)
    if value is None:
        return "; indent its settings further than its name"
    for kind in classes_in(field.annotation) if field is not None else [owner]:
        needed = [n for n, setting in kind.model_fields.items() if setting.is_required()]
        if value is True and not needed:
            return f"; write {name}: {{}} for its defaults"
        if "kind" in kind.model_fields:  # of several, told apart by it
            if value not in get_args(kind.model_fields["kind"].annotation):
                continue
            needed = ["kind", *(other for other in needed if other != "kind")]
        elif not isinstance(value, str) or len(needed) != 1:
            continue
        others = "".join(f", {other}: …" for other in needed[1:])
        return f"; write {name}: {{{needed[0]}: {value}{others}}}"
    return ""


def _unknown(name: str, value: Any, owner: type[BaseModel] | None, root: type[BaseModel]) -> str:
    """A setting that there is not here: of another level, or misspelt."""
    if isinstance(value, dict) and "stage" in value:
        return (
            f"'{name}' is a stage and stands among settings; indent it as far as the other "
            "names under stages:"
        )
    allowed = owner.model_fields if owner is not None else {}
    for inner, within in _settings_within(owner):
        if name in within.model_fields:
            return f"'{name}' is a setting of {inner}; indent it under {inner}:"
    if owner is not root and name in root.model_fields:
        return f"'{name}' is a setting of the stage itself; indent it less"
    hint, kind = nearest(name, allowed), root.model_fields.get("stage")
    if hint.endswith(" more") and kind is not None:
        hint += f": {Given().command('stages', get_args(kind.annotation)[0])}"
    return f"unknown setting '{name}'; {hint}"


def _settings_within(owner: type[BaseModel] | None) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in owner.model_fields.items() if owner is not None else ():
        for kind in classes_in(field.annotation):
            yield name, kind


def classes_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The classes of settings inside `X | None`, `dict[str, X]` or a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for part in get_args(annotation):
        yield from classes_in(part)


def quoted_names(names: Iterable[Any]) -> str:
    """`'stage', 'rows' and 'model'`."""
    listed = [quoted(name) for name in names]
    return " and ".join((", ".join(listed[:-1]), listed[-1])) if listed[1:] else "".join(listed)
