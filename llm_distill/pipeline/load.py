"""YAML file → checked PipelineConfig. Every problem is found before one error names them all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from llm_distill.errors import ConfigError, nearest
from llm_distill.paths import bundled_root, find_resource
from llm_distill.pipeline.graph import check_graph
from llm_distill.pipeline.problems import Path as Place
from llm_distill.pipeline.problems import Problems
from llm_distill.pipeline.registry import find_stage, stage_names
from llm_distill.pipeline.schema import Header, PipelineConfig
from llm_distill.pipeline.yaml_file import apply_set, expand_variables, merge, read_yaml
from llm_distill.stage import Stage


def load_pipeline(
    file: str, *, profile: str | None = None, assignments: Sequence[str] = ()
) -> PipelineConfig:
    """Read, merge, expand, type and check a pipeline file.

    Order: the file that it `extends`, the file, the profile, each `--set`, then `${VAR}`.

    Raises:
        ConfigError: with every problem that was found, each with its place.
    """
    path = _find_file(file)
    values, lines = _read_with_base(path)
    values, lines = _apply_profile(values, lines, profile, path)
    for assignment in assignments:
        values, place = apply_set(values, assignment)
        lines[place] = f"--set {assignment}"
    problems = Problems(str(path), lines)
    values = expand_variables(values, (), problems)
    stages = _read_stages(values.get("stages"), problems)
    header = _read_header(values, problems)
    models = header.models if header is not None else None
    check_graph(stages, values.get("stages"), values.get("models"), models, problems)
    problems.raise_if_any()
    assert header is not None
    return PipelineConfig(
        name=header.name,
        seed=header.seed,
        models=header.models,
        stages=stages,
        source=str(path),
        profile=profile,
        resolved=values,
    )


def profile_names(file: str) -> list[str]:
    """The profiles that a file has, its base's included."""
    values, _ = _read_with_base(_find_file(file))
    return list(values.get("profiles") or {})


def _find_file(file: str) -> Path:
    path = find_resource(file)
    if path is None or not path.is_file():
        shipped = sorted(
            f"pipelines/{p.name}" for p in (bundled_root() / "pipelines").glob("*.yaml")
        )
        raise ConfigError(f"no pipeline file {file}; {nearest(file, shipped)}")
    return path


def _read_with_base(
    path: Path, seen: tuple[Path, ...] = ()
) -> tuple[dict[str, Any], dict[Place, str]]:
    values, lines = read_yaml(path)
    base = values.pop("extends", None)
    if base is None:
        return values, lines
    base_path = path.parent / str(base)
    if base_path.resolve() in seen or base_path.resolve() == path.resolve():
        raise ConfigError(f"{lines[('extends',)]}: extends: {base} leads back to this file")
    if not base_path.is_file():
        raise ConfigError(f"{lines[('extends',)]}: extends: no file {base_path}")
    base_values, base_lines = _read_with_base(base_path, (*seen, path.resolve()))
    return merge(base_values, values), {**base_lines, **lines}


def _apply_profile(
    values: dict[str, Any], lines: dict[Place, str], profile: str | None, path: Path
) -> tuple[dict[str, Any], dict[Place, str]]:
    profiles = values.pop("profiles", None) or {}
    if profile is None:
        return values, lines
    if profile not in profiles:
        raise ConfigError(f"{path}: no profile '{profile}'; {nearest(profile, profiles)}")
    moved = {
        place[2:]: line
        for place, line in lines.items()
        if place[:2] == ("profiles", profile) and len(place) > 2
    }
    return merge(values, profiles[profile] or {}), {**lines, **moved}


def _read_header(values: dict[str, Any], problems: Problems) -> Header | None:
    raw = {key: value for key, value in values.items() if key != "stages"}
    try:
        return Header.model_validate(raw)
    except ValidationError as error:
        problems.add_validation((), error, Header, raw)
        return None


def _read_stages(raw_stages: Any, problems: Problems) -> dict[str, Stage]:
    """The stages that are valid by themselves; the others are in `problems`."""
    if not isinstance(raw_stages, dict) or not raw_stages:
        problems.add(("stages",), "a pipeline needs stages: a mapping of names to settings")
        return {}
    stages: dict[str, Stage] = {}
    for name, raw in raw_stages.items():
        place: Place = ("stages", name)
        if not isinstance(name, str) or not name.replace("_", "").isalnum():
            problems.add(place, "a stage's name has letters, digits and underscores only")
        elif not isinstance(raw, dict) or "stage" not in raw:
            problems.add(
                place, "says no stage; add stage: with one of: " + ", ".join(stage_names())
            )
        else:
            kind = find_stage(str(raw["stage"]))
            if kind is None:
                hint = nearest(str(raw["stage"]), stage_names())
                problems.add((*place, "stage"), f"no stage '{raw['stage']}'; {hint}")
                continue
            try:
                stages[name] = kind.model_validate(raw)
            except ValidationError as error:
                problems.add_validation(place, error, kind, raw)
    return stages
