"""Everything that is wrong with a pipeline file, collected and reported at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from llm_distill.errors import ConfigError, LLMDistillError, counted, shortened
from llm_distill.pipeline.wording import explained, got

Path = tuple[str | int, ...]


def spell(path: Path) -> str:
    """`("stages", "x", "models", 1)` as `stages.x.models[1]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def parts(field: str) -> Path:
    """`models[1]` as ("models", 1), `examples.rows` as ("examples", "rows")."""
    return tuple(
        int(part) if part.isdigit() else part for part in re.split(r"[.\[\]]+", field) if part
    )


LONGEST_PLACE, LONGEST_MESSAGE = 200, 1000
"""Characters."""


@dataclass
class Problems:
    """Collects problems. `lines` says where each place of the merged file was written.

    unknown: places whose value is not known; further problems there would only follow from it.
    rounds: for a stage of a repeat's round, such as ("stages", "x@2"), its place in the file. A
        wrong setting is reported for the first round in which it is wrong.
    """

    source: str
    lines: Mapping[Path, str]
    found: list[str] = field(default_factory=list)
    unknown: set[Path] = field(default_factory=set)
    rounds: dict[Path, Path] = field(default_factory=dict)
    _said_of: dict[Path, Path] = field(default_factory=dict)

    def add(self, path: Path, message: str) -> None:
        """Note a problem at `path`, or at the nearest enclosing place that has a line."""
        place = self.in_file(path)
        if place in self.unknown or self._said_of.setdefault(place, path[:2]) != path[:2]:
            return
        shown = shortened(spell(place), LONGEST_PLACE) or "the file"
        self.found.append(f"{self.where(place)}: {shown}: {shortened(message, LONGEST_MESSAGE)}")

    def in_file(self, path: Path) -> Path:
        """The place in the file, where `path` may be one of an unrolled stage."""
        return (*self.rounds.get(path[:2], path[:2]), *path[2:])

    def where(self, path: Path) -> str:
        for end in range(len(path), -1, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return self.source

    def add_validation(
        self, path: Path, error: ValidationError, model: type[BaseModel], raw: Any
    ) -> None:
        """Note each of Pydantic's errors in the words of the pipeline file.

        For a union, Pydantic reports each member that does not fit; here it is one problem, at the
        innermost place that is wrong.
        """
        found: dict[Path, list[Any]] = {}
        for item in error.errors(include_url=False, include_context=True):
            found.setdefault(_without_tags(item, raw), []).append(item)
        for inner, items in found.items():
            is_union = items[0]["loc"][-1:] != inner[-1:]  # a member's tag was cut off
            if is_union and any(o[: len(inner)] == inner and o != inner for o in found):
                continue
            owner = _class_at(model, raw, inner[:-1])
            literal = next((i for i in items if i["type"] == "literal_error"), None)
            if literal and any(item["type"] in ("bool_type", "bool_parsing") for item in items):
                allowed = f"true, false or {literal['ctx']['expected']}"
                self.add(path + inner, f"got {literal['input']!r}; allowed: {allowed}")
                continue
            messages = dict.fromkeys(explained(item, owner, model) for item in items)
            self.add(path + inner, " or ".join(messages) + got(items, inner, owner))

    def raise_if_any(self, kind: type[LLMDistillError] = ConfigError) -> None:
        if not self.found:
            return
        lines = "\n".join(f"  {problem}" for problem in self.found)
        error = kind(f"{counted(len(self.found), 'problem')} in {self.source}:\n{lines}")
        error.problems = tuple(self.found)
        raise error


def _without_tags(item: Any, raw: Any) -> Path:
    """The location of an error in the file, which lacks the union tags that Pydantic puts in."""
    path: list[str | int] = []
    value = raw
    for index, part in enumerate(item["loc"]):
        is_missing = item["type"] == "missing" and index == len(item["loc"]) - 1
        if isinstance(value, dict):
            if part not in value and not is_missing:
                continue  # a discriminator's tag, or a member of a plain union
            value = value.get(part)
        elif isinstance(value, (list, tuple)):
            if not isinstance(part, int):
                continue
            value = value[part] if part < len(value) else None
        elif path:
            continue
        path.append(part)
    return tuple(path)


def _class_at(model: type[BaseModel], raw: Any, path: Path) -> type[BaseModel] | None:
    """The settings class at `path` of the raw settings, to list the names it allows."""
    annotation: Any = model
    for part in path:
        if get_origin(annotation) in (dict, list, tuple):
            annotation = get_args(annotation)[1 if get_origin(annotation) is dict else 0]
        else:
            owner = model_in(annotation, raw)
            if owner is None or part not in owner.model_fields:
                return None
            annotation = owner.model_fields[str(part)].annotation
        raw = raw[part]
    return model_in(annotation, raw)


def model_in(annotation: Any, raw: Any = None) -> type[BaseModel] | None:
    """The settings class inside `X | None` or `dict[str, X]`; of several raw's, or the first."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = [m for m in (model_in(a, raw) for a in get_args(annotation)) if m is not None]
    return next((model for model in found if _is_named_by(raw, model)), found[0] if found else None)


def _is_named_by(raw: Any, model: type[BaseModel]) -> bool:
    """Whether raw has the class's tag: a setting such as `kind` that allows one value."""
    tags = {
        name: get_args(setting.annotation)
        for name, setting in model.model_fields.items()
        if get_origin(setting.annotation) is Literal and len(get_args(setting.annotation)) == 1
    }
    return isinstance(raw, dict) and any(raw.get(name) in allowed for name, allowed in tags.items())
