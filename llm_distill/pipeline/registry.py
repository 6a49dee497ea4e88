"""Stages by name, a module under `llm_distill/stages` or a third party's entry point; and typed."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from pydantic import TypeAdapter, ValidationError

from llm_distill.stage import Stage

ENTRY_POINT_GROUP = "llm_distill.stages"


def stage_names() -> list[str]:
    """Every stage that can be named after `stage:`."""
    return sorted({*own_stage_names(), *(p.name for p in entry_points(group=ENTRY_POINT_GROUP))})


def find_stage(name: str) -> type[Stage] | None:
    """The stage's class, or None where no module and no entry point has the name."""
    module_name = f"llm_distill.stages.{name}"
    if name in own_stage_names():
        module = importlib.import_module(module_name)
        for value in vars(module).values():
            # Defined here: a base that it shares with other stages is imported.
            if (
                isinstance(value, type)
                and issubclass(value, Stage)
                and value.__module__ == module.__name__
            ):
                return value
        raise TypeError(f"{module_name} defines no subclass of Stage")
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name == name:
            loaded: type[Stage] = point.load()
            return loaded
    return None


def read_stage(kind: type[Stage], raw: Mapping[Any, Any]) -> tuple[Stage, ValidationError | None]:
    """The stage, and what is wrong with it. Settings that do not fit are None.

    So the references of an incomplete stage can still be checked.
    """
    try:
        return kind.model_validate(raw), None
    except ValidationError as error:
        return _what_fits(kind, raw), error


def _what_fits(kind: type[Stage], raw: Mapping[Any, Any]) -> Stage:
    values: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        try:
            values[name] = TypeAdapter[Any](field.annotation or Any).validate_python(raw.get(name))
        except ValidationError:
            values[name] = None
    return kind.model_construct(**values)


def own_stage_names() -> set[str]:
    """Those of the package itself: its modules; special names such as `__init__` are not listed."""
    import llm_distill.stages as package

    return {module.name for module in pkgutil.iter_modules(package.__path__)}
