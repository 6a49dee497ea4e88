"""What `llm-distill stages` shows, read off the stages' own docstrings and fields."""

from __future__ import annotations

import inspect
import sys
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from rich import box
from rich.markup import escape
from rich.table import Table

from llm_distill.display import console
from llm_distill.errors import ConfigError, nearest
from llm_distill.pipeline.registry import find_stage, stage_names
from llm_distill.stage import Stage


def list_stages() -> None:
    """A line a stage."""
    table = Table("stage", "gives", "what it does", box=box.SIMPLE_HEAD)
    for name in stage_names():
        stage = find_stage(name)
        if stage is not None:
            table.add_row(name, stage.output, escape(_first_line(stage)))
    out = console()
    out.print(table)
    out.print("llm-distill stages NAME shows a stage's settings")


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
    out.print(inspect.cleandoc(stage.__doc__ or ""), markup=False)
    module_doc = inspect.getdoc(sys.modules[stage.__module__])
    if module_doc:
        out.print("\n" + module_doc, markup=False, style="dim")
    table = Table("setting", "type", "default", "meaning", box=box.SIMPLE_HEAD)
    _add_settings(table, stage, "")
    out.print(table)


def _add_settings(table: Table, settings: type[BaseModel], prefix: str) -> None:
    for name, field in settings.model_fields.items():
        if not prefix and name == "stage":
            continue
        nested = _settings_class(field.annotation)
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


def _settings_class(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _settings_class(argument)
        if found is not None:
            return found
    return None


def _type_name(annotation: Any, metadata: list[Any]) -> str:
    for item in metadata:
        if hasattr(item, "to"):
            return "a stage's rows" if item.to == "rows" else "a model"
    text = str(annotation) if not isinstance(annotation, type) else annotation.__name__
    for word in ("typing.", "llm_distill.stages.", "llm_distill.engines.base.", "collections.abc."):
        text = text.replace(word, "")
    text = text.replace("Annotated[str, Reference(to='rows')]", "rows")
    return text.replace("Annotated[str, Reference(to='model')]", "model")


def _default(field: Any) -> str:
    if field.default is not PydanticUndefined:
        return "" if isinstance(field.default, BaseModel) else repr(field.default)
    return "required" if field.is_required() else ""


def _first_line(stage: type[Stage]) -> str:
    return (inspect.getdoc(stage) or "").partition("\n")[0]
