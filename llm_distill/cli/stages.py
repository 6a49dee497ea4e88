"""What `llm-distill stages` shows, read off the stages' own docstrings and fields."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from rich.markup import escape

from llm_distill.cli.display import console, make_table
from llm_distill.cli.folding import FoldingTable
from llm_distill.errors import ConfigError, nearest
from llm_distill.hints import Given
from llm_distill.pipeline.problems import model_in
from llm_distill.pipeline.registry import find_stage, stage_names
from llm_distill.stage import Reference

_TYPES = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    Any: "anything",
    type(None): "null",
}


def list_stages() -> None:
    """A line per stage."""
    table = make_table("stage", "gives", "what it does")
    for name in stage_names():
        stage = find_stage(name)
        if stage is not None:
            summary = (inspect.getdoc(stage) or "").partition("\n")[0]
            table.add_row(name, stage.output, escape(summary))
    out = console()
    out.print(table)
    out.print(f"a stage's settings: {Given().command('stages', 'generate')}")


def describe_stage(name: str) -> None:
    """A stage's docstring, the example rows of its file, and its settings.

    Raises:
        ConfigError: there is no such stage.
    """
    stage = find_stage(name)
    if stage is None:
        raise ConfigError(f"no stage '{name}'; {nearest(name, stage_names())}")
    out = console()
    out.print(f"[bold]{name}[/bold] (gives {stage.output})")
    out.print(inspect.cleandoc(stage.__doc__ or ""), markup=False, soft_wrap=False)
    module_doc = inspect.getdoc(sys.modules[stage.__module__])
    if module_doc:
        out.print("\n" + module_doc, markup=False, style="dim", soft_wrap=False)
    table = make_table("setting", "type", "default", "meaning")
    _add_settings(table, stage, "")
    out.print(table)


def _add_settings(table: FoldingTable, settings: type[BaseModel], prefix: str) -> None:
    for name in _in_reading_order(settings):
        if not prefix and name == "stage":
            continue
        field = settings.model_fields[name]
        nested = model_in(field.annotation)
        note = field.description or ""
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("affects_result") is False:
            note += " (does not change the result)"
        table.add_row(
            prefix + name,
            escape(_type_name(field.annotation, field.metadata)),
            escape(_default(field)),
            escape(note),
        )
        if nested is not None:
            _add_settings(table, nested, f"{prefix}{name}.")


def _in_reading_order(settings: type[BaseModel]) -> list[str]:
    """What must be given, then the class's own settings, then those that it shares with others."""
    own = inspect.get_annotations(settings)
    return sorted(
        settings.model_fields,
        key=lambda name: (not settings.model_fields[name].is_required(), name not in own),
    )


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
        return " or ".join(_type_name(argument) for argument in arguments)
    return _TYPES.get(annotation) or str(getattr(annotation, "__name__", annotation))


def _default(field: Any) -> str:
    if field.default is not PydanticUndefined:
        if field.default is None:
            return "null"
        return "" if isinstance(field.default, BaseModel) else repr(field.default)
    return "required" if field.is_required() else ""
