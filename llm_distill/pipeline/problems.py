"""Everything that is wrong with a pipeline file, collected so that it is said at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from llm_distill.errors import ConfigError, nearest

Path = tuple[str | int, ...]


def spell(path: Path) -> str:
    """`("stages", "x", "models", 1)` as `stages.x.models[1]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


@dataclass
class Problems:
    """Collects problems. `lines` says where each place of the merged file was written."""

    source: str
    lines: Mapping[Path, str]
    found: list[str] = field(default_factory=list)

    def add(self, path: Path, message: str) -> None:
        """Note a problem at `path`, or at the nearest enclosing place that has a line."""
        self.found.append(f"{self.where(path)}: {spell(path) or 'the file'}: {message}")

    def where(self, path: Path) -> str:
        for end in range(len(path), -1, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return self.source

    def add_validation(
        self, path: Path, error: ValidationError, model: type[BaseModel], raw: Any
    ) -> None:
        """Note each of Pydantic's errors in the words of the pipeline file."""
        for item in error.errors(include_url=False, include_context=True):
            inner = _without_tags(item["loc"], raw)
            self.add(path + inner, _explain(item, _class_at(model, inner[:-1])))

    def raise_if_any(self) -> None:
        if not self.found:
            return
        count = "1 problem" if len(self.found) == 1 else f"{len(self.found)} problems"
        lines = "\n".join(f"  {problem}" for problem in self.found)
        raise ConfigError(f"{count} in {self.source}:\n{lines}")


def _explain(item: Any, owner: type[BaseModel] | None) -> str:
    kind, value = item["type"], item["input"]
    name = str(item["loc"][-1]) if item["loc"] else ""
    if kind == "extra_forbidden":
        allowed = owner.model_fields if owner is not None else ()
        return f"unknown setting '{name}'; {nearest(name, allowed)}"
    if kind == "missing":
        return "is required and missing"
    if kind == "literal_error":
        return f"got {value!r}; allowed: {item['ctx']['expected']}"
    if kind == "union_tag_invalid":
        return f"got {item['ctx']['tag']!r}; allowed: {item['ctx']['expected_tags']}"
    if kind == "union_tag_not_found":
        return f"needs {item['ctx']['discriminator']} to say which kind it is"
    message = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if isinstance(value, (str, int, float, bool)) or value is None:
        return f"{message}, got {value!r}"
    return str(message)


def _without_tags(location: Sequence[str | int], raw: Any) -> Path:
    """Pydantic puts union tags into its locations; the file has no such level."""
    path: list[str | int] = []
    value = raw
    for index, part in enumerate(location):
        is_last = index == len(location) - 1
        if isinstance(value, dict) and part not in value and not is_last:
            continue  # a discriminator's tag
        if not isinstance(value, (dict, list)) and not is_last:
            continue  # a member of a plain union
        if not isinstance(value, (dict, list)) and isinstance(part, str) and path:
            continue
        path.append(part)
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
    return tuple(path)


def _class_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """The settings class that lies at `path`, to list the names it allows."""
    current: type[BaseModel] | None = model
    for part in path:
        if current is None or part not in current.model_fields:
            return None
        current = _model_in(current.model_fields[str(part)].annotation)
    return current


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
