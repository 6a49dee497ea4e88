"""YAML with positions: plain values, and the line of each place."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from llm_distill.errors import ConfigError, quoted
from llm_distill.pipeline.problems import Path as Place
from llm_distill.pipeline.yaml_hints import hint

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Scalars(yaml.SafeLoader):
    """Reads values. Has its own dates: a library that vLLM installs makes them text everywhere."""

    yaml_constructors = {  # noqa: RUF012 (as PyYAML has it)
        **yaml.SafeLoader.yaml_constructors,
        "tag:yaml.org,2002:timestamp": yaml.constructor.SafeConstructor.construct_yaml_timestamp,
    }


_DEEPEST = 100
_LONGEST = 1_000_000
_MOST_VALUES = 100_000
_LARGEST = 2**63
_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null")} | {"!"}
_QUOTE = "put quotes around it if it is meant as text"

At = Callable[[int], str]
"""From a line's number, counted from 0, to how a message names the place."""


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[Place, str]]:
    """The file's values, and `{place: "file:line"}`.

    Raises:
        ConfigError: it cannot be read, is not YAML, repeats a key or is not a mapping.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read pipeline file {path}: {error.strerror}") from error
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from error
    values, lines = parse_yaml(text, lambda line: f"{path}:{line + 1}")
    if not isinstance(values, dict):
        found = "the file is empty; " if values is None else ""
        raise ConfigError(
            f"{path}:1: {found}a pipeline file is a mapping with name, models and stages"
        )
    return values, lines


def parse_yaml(text: str, at: At) -> tuple[Any, dict[Place, str]]:
    """The text's values, and where each place of them is.

    Raises:
        ConfigError: it is not YAML, or it repeats a key.
    """
    if len(text) > _LONGEST:
        raise ConfigError(f"{at(0)}: {len(text):,} characters; at most {_LONGEST:,}")
    try:
        _check_depth(text, at)  # before it is composed: the C library overflows its stack
        node = yaml.compose(text, Loader=_Loader)
    except yaml.reader.ReaderError as error:
        line = text.encode()[: error.position].count(b"\n")
        raise ConfigError(
            f"{at(line)}: not YAML: a control character (number {error.character}); delete it"
        ) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line if mark else 0
        raise ConfigError(f"{at(line)}: not YAML: {error.problem}{hint(text, error)}") from error
    except RecursionError as error:
        raise ConfigError(f"{at(0)}: nested too deeply") from error
    lines: dict[Place, str] = {}
    return (_values(node, (), at, lines) if node is not None else None), lines


def _check_depth(text: str, at: At) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        where = at(event.start_mark.line if event.start_mark else 0)
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ConfigError(f"{where}: nested too deeply, or an alias that contains itself")
        tag = getattr(event, "tag", None)
        if tag is not None and tag not in _TAGS:
            raise ConfigError(f"{where}: the tag {quoted(tag)} is not read; {_QUOTE}")


def _values(node: yaml.Node, place: Place, at: At, lines: dict[Place, str]) -> Any:
    where = at(node.start_mark.line)
    lines[place] = where
    if len(lines) > _MOST_VALUES:
        raise ConfigError(f"{where}: more than {_MOST_VALUES:,} values; do aliases repeat aliases?")
    if len(place) > _DEEPEST:
        raise ConfigError(f"{where}: nested too deeply, or an alias that contains itself")
    if isinstance(node, yaml.MappingNode):
        if not getattr(node, "flat", False):  # an alias brings a node here again
            _check_keys(node, at)
            _flatten(node, where)
            node.flat = True  # type: ignore[attr-defined]
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = _scalar(key_node, at)
            result[key] = _values(value_node, (*place, key), at, lines)
            lines[(*place, key)] = at(key_node.start_mark.line)
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_values(item, (*place, index), at, lines) for index, item in enumerate(node.value)]
    return _scalar(node, at)


def _check_keys(node: yaml.MappingNode, at: At) -> None:
    seen: dict[str, int] = {}
    for key_node, _ in node.value:
        line = key_node.start_mark.line
        where = at(line)
        if not isinstance(key_node, yaml.ScalarNode):  # such as {{ x }} that YAML takes for two
            raise ConfigError(
                f"{where}: a mapping or a list cannot be a name; "
                "put quotes around braces if they are meant as text"
            )
        if key_node.value in seen:
            first = seen[key_node.value]
            also = f" (the first is in line {first + 1})" if first != line else ""
            if key_node.value == "stage":  # of two stages, whose settings are not under their names
                also += "; a stage's settings are indented further than its name"
            raise ConfigError(f"{where}: '{key_node.value}' appears twice; keep one{also}")
        seen[key_node.value] = line


def _flatten(node: yaml.MappingNode, where: str) -> None:
    """Put what `<<: *anchor` names before the node's own keys."""
    try:
        yaml.SafeLoader("").flatten_mapping(node)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: '<<' needs an anchor of another mapping: <<: *name") from error


def _scalar(node: yaml.Node, at: At) -> Any:
    try:
        value = _Scalars("").construct_object(node)
    except (yaml.YAMLError, ValueError) as error:
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        raise ConfigError(
            f"{at(node.start_mark.line)}: {quoted(node.value)} cannot be read as {kind}; {_QUOTE}"
        ) from error
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and not (math.isfinite(value) and abs(value) < _LARGEST):
        raise ConfigError(
            f"{at(node.start_mark.line)}: {quoted(node.value)} is not a number that a setting can "
            f"have: they are finite, and whole ones have 64 bits; {_QUOTE}"
        )
    return value
