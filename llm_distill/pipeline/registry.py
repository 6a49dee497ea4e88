"""Stages by name: a module under `llm_distill/stages`, or a third party's entry point."""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import entry_points

from llm_distill.stage import Stage

ENTRY_POINT_GROUP = "llm_distill.stages"


def stage_names() -> list[str]:
    """Every stage that can be named behind `stage:`."""
    return sorted({*_own(), *(point.name for point in entry_points(group=ENTRY_POINT_GROUP))})


def find_stage(name: str) -> type[Stage] | None:
    """The stage's class, or None where no module and no entry point has the name."""
    module_name = f"llm_distill.stages.{name}"
    if name in _own():
        module = importlib.import_module(module_name)
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Stage) and value is not Stage:
                return value
        raise TypeError(f"{module_name} has no subclass of Stage")
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name == name:
            loaded: type[Stage] = point.load()
            return loaded
    return None


def _own() -> set[str]:
    """The modules of the package; a special name such as `__init__` is none."""
    import llm_distill.stages as package

    return {module.name for module in pkgutil.iter_modules(package.__path__)}
