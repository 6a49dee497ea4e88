"""What happens to a file's values before they are typed: profiles, `--set` and `${VAR}`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any, get_args

from llm_distill.errors import ConfigError, nearest
from llm_distill.methods.answers import AnswerKind
from llm_distill.pipeline.problems import Path as Place
from llm_distill.pipeline.problems import Problems
from llm_distill.pipeline.yaml_file import parse_yaml
from llm_distill.secrets import HIDDEN, has_secret, is_secret_name, without_secrets

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SECRET_ADVICE = (
    "looks like a secret, and this file is copied into the run's record; "
    "take it out: the library that needs it reads it from the environment"
)


DIFFICULTIES = ("gold", "consistency", "process_reward")
"""The values of `by` that decide which settings go with it; elsewhere it is a name."""


def merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`, mapping by mapping; lists and scalars are replaced.

    A stage of another kind replaces the old one, and so do settings with another `by` or `kind`
    (what makes a question difficult, an engine), because their other settings have other names.
    """
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, Mapping):
            merged[key] = dict(value) if _is_another(old, value) else merge(old, value)
        else:
            merged[key] = value
    return merged


def _is_another(old: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    """Whether it replaces the old mapping instead of being merged into it."""
    if (_repeat(old) is not None and "stage" in value) or (
        "stage" in old and _repeat(value) is not None
    ):
        return True  # a block in place of a stage, or a stage in place of a block
    if "stage" not in old and value.get("kind") in get_args(AnswerKind):
        return False  # of `verify:`, whose other settings are the same for every kind
    if old.get("by") in DIFFICULTIES or value.get("by") in DIFFICULTIES:
        tag = "by"
    else:
        tag = "stage" if "stage" in old else "kind"
    return isinstance(value.get(tag), str) and value[tag] != old.get(tag)


def lay_over(
    base: dict[str, Any], over: Mapping[str, Any], place: Place, problems: Problems
) -> dict[str, Any]:
    """Merge a profile, a `--set` or an extending file over what it changes.

    `place` is that of `over` itself. A change of a stage or model that is not there is noted and
    left out: it would look like a new one that is incomplete.
    """
    return merge(base, _known(base, over, place, problems))


def _known(
    base: Mapping[str, Any], over: Mapping[str, Any], place: Place, problems: Problems
) -> dict[str, Any]:
    """`over` without changes of stages and models that are not there."""
    known = dict(over)
    for section, noun, needed in (
        ("stages", "stage", "stage"),
        ("models", "model", "model_name_or_path"),
    ):
        there, changed = base.get(section) or {}, over.get(section)
        if not isinstance(there, dict) or not isinstance(changed, dict):
            continue
        known[section] = dict(changed)
        for name, settings in changed.items():
            at = (*place, section, name)
            if name in there:
                old, new = _repeat(there[name]), _repeat(settings)
                if old is not None and new is not None:  # it has stages of its own
                    inner = _known(old, new, (*at, "repeat"), problems)
                    known[section][name] = {**settings, "repeat": inner}
            elif not isinstance(settings, dict) or not (needed in settings or _is_new(settings)):
                del known[section][name]
                problems.add(
                    at, f"no {noun} '{name}'; {nearest(name, there)}; a new one needs {needed}:"
                )
    return known


def _repeat(entry: Any) -> dict[str, Any] | None:
    """What is under `repeat:` of an entry under `stages:`."""
    inner = entry.get("repeat") if isinstance(entry, dict) else None
    return inner if isinstance(inner, dict) else None


def _is_new(entry: Any) -> bool:
    """Whether it is a whole block and not a change of one."""
    return {"times", "stages"} <= set(_repeat(entry) or ())


def apply_profile(
    values: dict[str, Any], lines: dict[Place, str], profile: str | None, problems: Problems
) -> dict[str, Any]:
    """The values with a profile's over them, and `profiles:` taken out.

    Raises:
        ConfigError: there is no such profile.
    """
    values = dict(values)
    profiles = values.pop("profiles", None) or {}
    if not isinstance(profiles, dict):
        problems.add(("profiles",), "is a mapping of names to settings")
        return values
    for name, settings in profiles.items():
        place: Place = ("profiles", name)
        if not isinstance(name, str):
            problems.add(place, f"a profile's name is text; put quotes around {name}")
        elif not isinstance(settings, dict | None):
            problems.add(place, f"a profile is a mapping of settings, got {settings!r}")
    if profile is None:
        return values
    if profile not in map(str, profiles):
        raise ConfigError(
            f"{problems.where(('profiles',))}: no profile '{profile}'; {nearest(profile, profiles)}"
        )
    settings = profiles.get(profile)
    if not isinstance(settings, dict):
        return values
    merged = lay_over(values, settings, ("profiles", profile), problems)
    at = ("profiles", profile)
    lines.update({p[2:]: line for p, line in lines.items() if p[:2] == at and len(p) > 2})
    return merged


def apply_set(
    values: dict[str, Any], lines: dict[Place, str], assignment: str, problems: Problems
) -> dict[str, Any]:
    """`stages.x.n=5` on top of the values; the value is read as YAML.

    Raises:
        ConfigError: it is not `place=value`.
    """
    where = "--set " + without_secrets(assignment, {})
    place_text, equals, text = assignment.partition("=")
    place = tuple(place_text.strip().split("."))
    if not equals or not all(place):
        raise ConfigError(f"{where}: expected place=value, as in --set stages.x.n=5")
    value, inner = parse_yaml(text, lambda _: where)
    return _set(values, lines, place, value, (where, inner), problems)


def apply_overrides(
    values: dict[str, Any],
    lines: dict[Place, str],
    overrides: Mapping[str, Any],
    problems: Problems,
) -> dict[str, Any]:
    """Values from Python on top of the file's: `{"stages.x.n": 5}`, `{"stages": {"x": {"n": 5}}}`.

    Only a whole key is taken apart at its dots, as those below it may be names that have some.

    Raises:
        ConfigError: it is not a mapping of names to what YAML could say.
    """
    if not isinstance(overrides, Mapping):
        raise ConfigError("overrides: a mapping such as {'stages.x.n': 5} is expected")
    for key, given in overrides.items():
        where = without_secrets(f"overrides: {key!r}", {})
        place = tuple(key.split(".")) if isinstance(key, str) else ()
        if not place or not all(place):
            raise ConfigError(f"{where}: a place is expected, such as 'stages.x.n'")
        inner: list[Place] = []
        value = _plain(given, where, (), inner)
        values = _set(values, lines, place, value, (where, inner), problems)
    return values


def _plain(value: Any, where: str, place: Place, found: list[Place]) -> Any:
    """As a YAML file would give it; `found` gets every place below."""
    found.append(place)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise ConfigError(f"{where}: the names of settings are text")
        return {k: _plain(v, where, (*place, k), found) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, where, (*place, i), found) for i, v in enumerate(value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if value is None or type(value) in (str, bool, int, float, date):
        return value
    raise ConfigError(
        f"{where}: a {type(value).__name__} is not text, a number, true or false, null, a list or "
        "a mapping; convert it"
    )


def _set(
    values: dict[str, Any],
    lines: dict[Place, str],
    place: tuple[str, ...],
    value: Any,
    source: tuple[str, Iterable[Place]],
    problems: Problems,
) -> dict[str, Any]:
    """The values with another one at a place. source: what set it, and the places in the value."""
    where, inner = source
    lines.update({(*place, *below): where for below in ((), *inner)})
    above: Any = values
    for end, part in enumerate(place, start=1):  # levels that it creates are its own too
        above = above.get(part) if isinstance(above, dict) else None
        if not isinstance(above, dict):
            lines[place[:end]] = where
    for part in reversed(place[1:]):
        value = {part: value}
    return lay_over(values, {place[0]: value}, (), problems)


def expand_variables(value: Any, place: Place, problems: Problems) -> Any:
    """`${VAR}` in every text, from the environment.

    What looks like a secret, by the variable's name or by the text itself, is refused: the file's
    values are written to the run's record.
    """
    if isinstance(value, dict):
        for name, inner in value.items():
            if "extra_body" in place and isinstance(inner, str) and is_secret_name(str(name)):
                problems.add((*place, name), f"'{name}' {_SECRET_ADVICE}")
        return {k: expand_variables(v, (*place, k), problems) for k, v in value.items()}
    if isinstance(value, list):
        return [expand_variables(v, (*place, i), problems) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value

    n_before = len(problems.found)

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        if is_secret_name(name):
            problems.add(place, f"${{{name}}} {_SECRET_ADVICE}")
        elif name not in os.environ:
            problems.add(place, f"${{{name}}} is not set in the environment")
        else:
            return os.environ[name]
        return match.group(0)

    text = _VARIABLE.sub(replace, value)
    if has_secret(text):
        problems.add(place, f"its text {_SECRET_ADVICE}")
        text = HIDDEN
    if len(problems.found) > n_before:
        problems.unknown.add(place)
    return text
