"""YAML with positions: plain values, and for each place where it was written.

Also what happens to values before they are typed: `extends`, profiles, `--set` and `${VAR}`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from llm_distill.errors import ConfigError, nearest
from llm_distill.pipeline.problems import Path as Place
from llm_distill.pipeline.problems import Problems

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|API_?KEY", re.IGNORECASE)


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[Place, str]]:
    """The file's values, and `{place: "file:line"}`.

    Raises:
        ConfigError: it cannot be read, is not YAML, repeats a key or is not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read pipeline file {path}: {error}") from error
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: not YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{path}: a pipeline file is a mapping with name, models and stages")
    lines: dict[Place, str] = {}
    values = _values(node, (), str(path), lines)
    return values, lines


def _values(node: yaml.Node, place: Place, source: str, lines: dict[Place, str]) -> Any:
    lines[place] = f"{source}:{node.start_mark.line + 1}"
    if isinstance(node, yaml.MappingNode):
        _refuse_repeated_keys(node, source)
        yaml.SafeLoader("").flatten_mapping(node)  # `<<: *anchor`, before the node's own keys
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = _scalar(key_node)
            result[key] = _values(value_node, (*place, key), source, lines)
            lines[(*place, key)] = f"{source}:{key_node.start_mark.line + 1}"
        return result
    if isinstance(node, yaml.SequenceNode):
        return [
            _values(item, (*place, index), source, lines) for index, item in enumerate(node.value)
        ]
    return _scalar(node)


def _refuse_repeated_keys(node: yaml.MappingNode, source: str) -> None:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.value in seen:
            line = key_node.start_mark.line + 1
            raise ConfigError(f"{source}:{line}: '{key_node.value}' stands twice; keep one")
        seen.add(key_node.value)


def _scalar(node: yaml.Node) -> Any:
    return yaml.SafeLoader("").construct_object(node)


def merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`, mapping by mapping; lists and scalars are replaced.

    A mapping that names another `kind` or `stage` replaces the old one: their settings differ.
    """
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, Mapping):
            other_kind = any(
                tag in value and value[tag] != old.get(tag) for tag in ("kind", "stage")
            )
            merged[key] = dict(value) if other_kind else merge(old, value)
        else:
            merged[key] = value
    return merged


def apply_set(values: dict[str, Any], assignment: str) -> tuple[dict[str, Any], Place]:
    """`stages.x.n=5` on top of `values`; the value is read as YAML.

    Raises:
        ConfigError: it is not `place=value`, or leads through something that is no mapping.
    """
    place_text, equals, text = assignment.partition("=")
    parts = tuple(place_text.strip().split("."))
    if not equals or not all(parts):
        raise ConfigError(f"--set {assignment}: expected place=value, as in --set stages.x.n=5")
    if parts[0] == "stages" and len(parts) > 1 and parts[1] not in values.get("stages", {}):
        raise ConfigError(
            f"--set {assignment}: no stage '{parts[1]}'; {nearest(parts[1], values['stages'])}"
        )
    try:
        value: Any = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {assignment}: the value is not YAML: {error}") from error
    for part in reversed(parts[1:]):
        value = {part: value}
    return merge(values, {parts[0]: value}), parts


def expand_variables(value: Any, place: Place, problems: Problems) -> Any:
    """`${VAR}` in every text, from the environment.

    A name that looks like a secret is refused: what stands in the file is written to the run's
    record, and the libraries read tokens and keys from the environment themselves.
    """
    if isinstance(value, dict):
        return {k: expand_variables(v, (*place, k), problems) for k, v in value.items()}
    if isinstance(value, list):
        return [expand_variables(v, (*place, i), problems) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        if _SECRET.search(name):
            problems.add(place, f"${{{name}}} looks like a secret; secrets stay in the environment")
        elif name not in os.environ:
            problems.add(place, f"${{{name}}} is not set in the environment")
        else:
            return os.environ[name]
        return match.group(0)

    return _VARIABLE.sub(replace, value)
