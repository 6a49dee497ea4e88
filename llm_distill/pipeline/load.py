"""YAML file → checked PipelineConfig. One error names every problem that is found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from llm_distill.errors import FEW, ConfigError, nearest, quoted
from llm_distill.hints import Given
from llm_distill.paths import bundled_root, exists, find_resource
from llm_distill.pipeline.graph import check_graph, without_unread
from llm_distill.pipeline.outside import check_trackers
from llm_distill.pipeline.problems import Path as Place
from llm_distill.pipeline.problems import Problems
from llm_distill.pipeline.registry import find_stage, read_stage, stage_names
from llm_distill.pipeline.repeat import unroll
from llm_distill.pipeline.rounds import Block, Rounds
from llm_distill.pipeline.schema import Header, ModelConfig, PipelineConfig
from llm_distill.pipeline.values import (
    apply_overrides,
    apply_profile,
    apply_set,
    expand_variables,
    lay_over,
    merge,
)
from llm_distill.pipeline.wording import quoted_names
from llm_distill.pipeline.yaml_file import read_yaml
from llm_distill.stage import Stage
from llm_distill.tracking import Tracker

MOST_NAME_BYTES = 200
"""A file's name has at most 255, and digits and endings are put after a stage's name."""


def load_pipeline(
    file: str,
    *,
    profile: str | None = None,
    assignments: Sequence[str] = (),
    overrides: Mapping[str, Any] = MappingProxyType({}),
    has_run: bool = False,
) -> PipelineConfig:
    """Read, merge, expand, type and check a pipeline file.

    Order: each file that it `extends`, the file, the profile, each `--set` (assignments, as text)
    and the overrides (as values), then `${VAR}`, and then every `repeat` is unrolled.

    has_run: it is of a run, so that data and models that it reads may be gone since.

    Raises:
        ConfigError: with every problem that was found, each with its place.
    """
    path = _find_file(file)
    lines: dict[Place, str] = {}
    problems = Problems(str(path), lines)
    values = _read_with_base(path, lines, problems)
    values = apply_profile(values, lines, profile, problems)
    for assignment in assignments:
        values = apply_set(values, lines, assignment, problems)
    values = apply_overrides(values, lines, overrides, problems)
    values = expand_variables(values, (), problems)
    raw_stages, rounds = unroll(values.get("stages"), problems)
    stages, incomplete = _read_stages(raw_stages, problems)
    header = _read_header(values, problems)
    models = header.models if header is not None else _valid_models(values.get("models"))
    raw_models = values.get("models")
    variables = values.get("variables")
    stages = check_graph(
        stages,
        incomplete,
        raw_stages,
        raw_models,
        models,
        variables if isinstance(variables, dict) else {},
        rounds,
        problems,
        has_run=has_run,
    )
    if header is not None and not has_run:
        check_trackers(header.report_to, stages, problems)
    problems.raise_if_any()
    assert header is not None
    loops = _loops(rounds)
    watched = (f"{b.until.watch}@{n}" for b in loops if b.until is not None for n in b.numbers)
    wanted = without_unread(stages, rounds.ends, watched)
    if not wanted:
        raise ConfigError(f"{path}: every stage is optional and none is read by another: none runs")
    return PipelineConfig(
        name=header.name,
        seed=header.seed,
        models=header.models,
        report_to=header.report_to,
        stages=_with_tracker(wanted, header.report_to),
        source=str(path),
        profile=profile,
        resolved=values,
        today=header.today,
        assignments=(*assignments, *(f"{place}={value}" for place, value in overrides.items())),
        unread=tuple(name for name in stages if name not in wanted),
        lines=lines,
        rounds=problems.rounds,
        loops=loops,
        ends={at: end for at, end in rounds.ends.items() if at[0] in wanted},
    )


def _loops(rounds: Rounds) -> tuple[Block, ...]:
    blocks = {each.block.name: each.block for each in rounds.of.values()}
    return tuple(block for block in blocks.values() if block.until is not None)


def profile_names(file: str) -> list[str]:
    """The profiles that a file has, its base's included."""
    values = _read_with_base(_find_file(file), {}, Problems(file, {}))
    return list(values.get("profiles") or {})


def names_of_stages(file: str) -> list[str]:
    """The names of a file's stages, its base's included, whatever else is wrong with it.

    Raises:
        ConfigError: it cannot be read.
    """
    problems = Problems(file, {})
    values = _read_with_base(_find_file(file), {}, problems)
    flat, _ = unroll(values.get("stages"), problems)
    return [name for name in flat if isinstance(name, str)] if isinstance(flat, dict) else []


def _find_file(file: str) -> Path:
    path = find_resource(file)
    if path is not None and path.is_file():
        return path
    is_folder = path is not None and path.is_dir()
    folder = Path(file).expanduser() if is_folder else Path(file).expanduser().parent
    near = sorted(str(p) for ending in ("*.yaml", "*.yml") for p in folder.glob(ending))
    bundled = (f"pipelines/{p.name}" for p in (bundled_root() / "pipelines").glob("*.yaml"))
    shipped = sorted({*bundled} - {*near})
    what = f"no pipeline file {file}"
    if is_folder:
        what = f"{file} is a directory, not a pipeline file"
    meant = get_close_matches(file, [*near, *shipped], n=1)
    hint = f"did you mean '{meant[0]}'? " if meant else ""
    listed = [*near, *get_close_matches(file, shipped, n=FEW, cutoff=0)][:FEW]
    more = len(near) + len(shipped) - len(listed)
    others = f" and {more} more ({Given().command('init', '--list')} lists the shipped ones)"
    raise ConfigError(f"{what}; {hint}there are: {', '.join(listed)}{others * (more > 0)}")


def _read_with_base(
    path: Path, lines: dict[Place, str], problems: Problems, seen: tuple[Path, ...] = ()
) -> dict[str, Any]:
    """The file over what it extends, the later over the earlier; `lines` gets all places."""
    values, own_lines = read_yaml(path)
    bases = values.pop("extends", None)
    if bases is None:
        lines.update(own_lines)
        return values
    where = f"{own_lines[('extends',)]}: extends"
    merged: dict[str, Any] = {}
    for base in bases if isinstance(bases, list) else [bases]:
        base_path = _base_path(path, str(base))
        if base_path is None:
            raise ConfigError(f"{where}: no file {_places(path, str(base))}")
        if base_path.resolve() in seen or base_path.resolve() == path.resolve():
            raise ConfigError(
                f"{where}: {base} leads back to this file; give this file another name, or name "
                "another one"
            )
        base_values = _read_with_base(base_path, lines, problems, (*seen, path.resolve()))
        merged = merge(merged, base_values)
    lines.update(own_lines)
    return lay_over(merged, values, (), problems)


def _base_path(path: Path, base: str) -> Path | None:
    """What a file extends: a file beside it, or else a shipped one."""
    for place in (path.parent / base, bundled_root() / "pipelines" / base):
        if exists(place) and place.is_file():
            return place
    return None


def _places(path: Path, base: str) -> str:
    shipped = nearest(base, (p.name for p in (bundled_root() / "pipelines").glob("*.yaml")))
    hint = shipped.replace("allowed:", "there are:")
    return f"{quoted(str(path.parent / base), 200)}, nor a shipped one of this name; {hint}"


def _read_header(values: dict[str, Any], problems: Problems) -> Header | None:
    raw = {key: value for key, value in values.items() if key != "stages"}
    is_known = True
    for key in [key for key in raw if isinstance(key, str) and key not in Header.model_fields]:
        if not (isinstance(raw[key], dict) and "stage" in raw[key]):  # which Pydantic's words say
            hint = nearest(key, {*Header.model_fields, "stages", "profiles", "extends"})
            problems.add((key,), f"unknown setting '{key}'; {hint}")
            del raw[key]
            is_known = False
    models = raw.get("models")
    for name, entry in list(models.items()) if isinstance(models, dict) else ():
        if isinstance(entry, dict) and "stage" in entry:
            message = "is a stage and stands under models:; it belongs under stages:"
            problems.add(("models", name), message)
            raw["models"] = {k: v for k, v in raw["models"].items() if k != name}
            is_known = False
    try:
        header = Header.model_validate(raw)
    except ValidationError as error:
        problems.add_validation((), error, Header, raw)
        return None
    return header if is_known else None


def _valid_models(raw_models: Any) -> dict[str, ModelConfig]:
    """What is valid under `models:` where something else of the header is not."""
    models: dict[str, ModelConfig] = {}
    for name, raw in raw_models.items() if isinstance(raw_models, dict) else ():
        with suppress(ValidationError):  # reported already
            models[name] = ModelConfig.model_validate(raw)
    return models


def _read_stages(raw_stages: Any, problems: Problems) -> tuple[dict[str, Stage], set[str]]:
    """The stages of a known kind, and the names of those with wrong settings."""
    if not isinstance(raw_stages, dict) or not raw_stages:
        is_list = isinstance(raw_stages, list)
        dashes = "; this is a list: write NAME: {stage: …} without a dash" if is_list else ""
        message = f"a pipeline needs stages: a mapping of names to settings{dashes}"
        problems.add(("stages",), message)
        return {}, set()
    stages: dict[str, Stage] = {}
    incomplete: set[str] = set()
    beside = _settings_beside(raw_stages)
    for name, raw in raw_stages.items():
        place: Place = ("stages", name)
        if any(name in names for names in beside.values()):
            continue
        plain = problems.in_file(place)[-1]
        if not isinstance(plain, str) or not plain.replace("_", "").isalnum():
            problems.add(place, "a stage's name has letters, digits and underscores only")
        elif (length := len(plain.encode("utf-8", "replace"))) > MOST_NAME_BYTES:
            problems.add(
                place,
                f"a stage's name has at most {MOST_NAME_BYTES} bytes, as it is part of names of "
                f"files; this one has {length}",
            )
        elif name in beside:
            listed = quoted_names(beside[name])
            are, them = ("is", "it") if len(beside[name]) == 1 else ("are", "them")
            problems.add(
                place,
                f"has no settings: {listed} below {are} indented no further than its name; indent "
                f"{them} by two spaces more",
            )
        elif not isinstance(raw, dict) or "stage" not in raw:
            problems.add(
                place, "does not name a stage; add stage: with one of: " + ", ".join(stage_names())
            )
        else:
            kind = find_stage(str(raw["stage"]))
            if kind is None:
                hint = nearest(str(raw["stage"]), stage_names())
                problems.add((*place, "stage"), f"no stage '{raw['stage']}'; {hint}")
                continue
            stages[name], error = read_stage(kind, raw)
            if error is not None:
                problems.add_validation(place, error, kind, raw)
                incomplete.add(name)
    return stages, incomplete


def _settings_beside(raw_stages: dict[Any, Any]) -> dict[Any, list[Any]]:
    """By a name without settings: the names after it that are no stages, but its settings."""
    found: dict[Any, list[Any]] = {}
    last: Any = None
    for name, raw in raw_stages.items():
        is_stage = isinstance(raw, dict) and bool({"stage", "repeat"} & raw.keys())
        if raw is None or is_stage:
            last = name if raw is None else None
        elif last is not None:
            found.setdefault(last, []).append(name)
    return {name: names for name, names in found.items() if "stage" in names}


def _with_tracker(stages: dict[str, Stage], tracker: Tracker) -> dict[str, Stage]:
    """A training reports to the pipeline's tracker unless it names another."""
    return {
        name: stage.model_copy(update={"report_to": tracker})
        if "report_to" in type(stage).model_fields and "report_to" not in stage.model_fields_set
        else stage
        for name, stage in stages.items()
    }
