"""What a sweep goes through: seeds, and settings with several values each. Pure.

    --seeds 1..5 --set stages.student.learning_rate=1e-5,5e-5 --set 'stages.exam.shots=[0],[0, 3]'

What stands after `=` is a YAML list without its brackets: a comma separates values, and a list, a
mapping or a text with a comma is one value if it is written as in YAML (`[0, 3]`, `{n: 2}`,
`"a, b"`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import yaml

from llm_distill.digests import canonical_json
from llm_distill.errors import ConfigError
from llm_distill.pipeline.yaml_file import parse_yaml
from llm_distill.secrets import without_secrets

RANGE = re.compile(r"(\d+)(?:\.\.(\d+))?")
EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", re.ASCII)
MOST_SEEDS = 10_000
SEEDS_HOW = "expected numbers and ranges, such as 1..5 or 1,2,7 or 1..5,8"
COMMAS = "a comma separates values; write a list as [a, b], and quotes around a text with , [ or {"
LONGEST_LABEL = 60


@dataclass(frozen=True)
class Axis:
    """A place of the pipeline file and the values that it takes.

    texts: the values as they were written, which is how `load_pipeline` reads them.
    """

    place: str
    values: tuple[Any, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Setting:
    """One combination of values. assignments: the same as `--set` takes it."""

    values: Mapping[str, Any]
    assignments: tuple[str, ...]

    @property
    def key(self) -> str:
        return setting_key(self.values)


def setting_key(values: Mapping[str, Any]) -> str:
    """One spelling of a combination: 1e-5 and 0.00001 are the same."""
    return canonical_json(dict(values))


def read_seeds(text: str) -> tuple[int, ...]:
    """`1..5,8` as 1, 2, 3, 4, 5, 8.

    Raises:
        ConfigError: it is anything else, or a seed is named twice.
    """
    seeds: list[int] = []
    for part in text.split(","):
        found = RANGE.fullmatch(part.strip())
        if found is None or not part.isascii():
            raise ConfigError(f"--seeds {text}: {SEEDS_HOW}")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise ConfigError(f"--seeds {text}: the range {part.strip()} is empty; {SEEDS_HOW}")
        if last - first >= MOST_SEEDS:
            raise ConfigError(f"--seeds {text}: more than {MOST_SEEDS:,} seeds")
        seeds += range(first, last + 1)
    twice = [seed for seed in dict.fromkeys(seeds) if seeds.count(seed) > 1]
    if twice:
        raise ConfigError(f"--seeds {text}: {twice[0]} is named twice; each run counts once")
    return tuple(seeds)


def read_axis(assignment: str) -> Axis:
    """`place=value,value`.

    Raises:
        ConfigError: it is not of this form, no value is given, or one is given twice.
    """
    where = "--set " + without_secrets(assignment, {})
    place, equals, text = assignment.partition("=")
    place = place.strip()
    if not equals or not all(place.split(".")):
        raise ConfigError(
            f"{where}: expected place=value,value, as in --set stages.x.learning_rate=1e-5,5e-5"
        )
    if place in ("seed", "name"):
        why = "write --seeds 1..5" if place == "seed" else "a sweep is of one pipeline"
        raise ConfigError(f"{where}: '{place}' cannot be swept; {why}")
    listed = f"[{text}\n]"  # on a line of its own, a comment does not swallow the bracket
    try:
        values, _ = parse_yaml(listed, lambda _: where)
    except ConfigError as error:
        raise ConfigError(f"{error}; {COMMAS}") from error
    node = yaml.compose(listed, Loader=yaml.SafeLoader)
    assert isinstance(node, yaml.SequenceNode)
    if not values:
        raise ConfigError(f"{where}: there is no value after '='; write null if none is meant")
    texts = tuple(listed[item.start_mark.index : item.end_mark.index] for item in node.value)
    spelled = [_spelled(value) for value in values]
    for value, spelling in zip(values, spelled, strict=True):
        if spelled.count(spelling) > 1:
            raise ConfigError(f"{where}: the value {written(value)} is there twice")
    return Axis(place, tuple(values), texts)


def settings_of(axes: Sequence[Axis]) -> Iterator[Setting]:
    """All combinations; the last axis changes first. Without axes, one that sets nothing.

    Raises:
        ConfigError: a place is named twice.
    """
    places = [axis.place for axis in axes]
    for place in places:
        if places.count(place) > 1:
            raise ConfigError(
                f"--set {place}: it is there twice; write all of its values behind one: "
                f"--set {place}=1,2"
            )
    choices = ([(a.place, v, t) for v, t in zip(a.values, a.texts, strict=True)] for a in axes)
    for chosen in product(*choices):
        values = {place: _plain(value) for place, value, _ in chosen}
        yield Setting(values, tuple(f"{place}={text}" for place, _, text in chosen))


def written(value: Any) -> str:
    """A value for people: as in a YAML file, on one line."""
    if isinstance(value, str):
        return value or '""'
    if isinstance(value, float):
        return f"{value:g}"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST_LABEL else text[: LONGEST_LABEL - 1] + "…"


def described(values: Mapping[str, Any], places: Sequence[str] | None = None) -> str:
    """`learning_rate 1e-05, n 2`: short names of places, whole where short ones are the same.

    places: those to name; all by default.
    """
    named = list(values) if places is None else places
    names = short_names(list(values))
    return ", ".join(f"{names[place]} {written(values.get(place))}" for place in named)


def short_names(places: Sequence[str]) -> dict[str, str]:
    """The last part of each place, with as many before it as tell it from the others."""
    parts = {place: place.split(".") for place in places}
    names: dict[str, str] = {}
    for place in places:
        own = parts[place]
        others = [each for other, each in parts.items() if other != place]
        n = next(
            (n for n in range(1, len(own)) if all(own[-n:] != each[-n:] for each in others)),
            len(own),
        )
        names[place] = ".".join(own[-n:])
    return names


def _plain(value: Any) -> Any:
    """As JSON has it: a date as its text, and 1e-5, which YAML takes for a text, as a number."""
    if isinstance(value, str) and EXPONENT.fullmatch(value):
        return float(value)
    return json.loads(json.dumps(value, default=str))


def _spelled(value: Any) -> str:
    return canonical_json(_plain(value))
