"""How the run's student is used: Python that loads it, and commands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llm_distill.engines.kinds import settings_class
from llm_distill.hints import hint
from llm_distill.paths import find_resource
from llm_distill.publish.snippet import Loading, asking, snippet
from llm_distill.report.collect import RunView, StageView


@dataclass(frozen=True)
class Use:
    """A student: the stage that trained it, Python that asks it, and commands."""

    stage: str
    python: str
    commands: tuple[str, ...]


def use(run: RunView) -> Use | None:
    """Of the last trained model that the last exam names; None where the run trained none."""
    student, exam = _student(run)
    if student is None:
        return None
    loading = _loading(run, student)
    if loading is None:
        return None
    entry = _entry(run, _base(run, student))
    asked = asking(
        entry.get("prompt_format", "chat") == "chat",
        exam.manifest if exam is not None else None,
        student.manifest,
    )
    called = run.record.name, student.name
    out = student.name.replace("@", "-")
    commands = (
        hint("ask", *called),
        hint("serve", *called),
        hint("export", *called, "--to", "merged", "--out", out),
    )
    return Use(student.name, snippet(loading, asked), commands)


def _student(run: RunView) -> tuple[StageView | None, StageView | None]:
    """The student and the exam that names it."""
    trained = {s.name: s for s in run.stages if s.manifest is not None and s.manifest.is_model}
    for stage in reversed(run.stages):
        named = stage.manifest.settings.get("models") if stage.manifest else None
        if stage.kind == "evaluate" and isinstance(named, list):
            found = [trained[name] for name in named if name in trained]
            if found:
                return found[-1], stage
    return (next(reversed(trained.values())), None) if trained else (None, None)


def _below(stage: StageView) -> str:
    """What a model was trained from."""
    manifest = stage.manifest
    assert manifest is not None
    return str(manifest.settings.get("model") or next(iter(manifest.models), ""))


def _base(run: RunView, stage: StageView) -> str:
    name = stage.name
    while (found := run.stage(name)) is not None and found.manifest is not None:
        name = _below(found)
    return name


def _loading(run: RunView, stage: StageView) -> Loading | None:
    """Where its files are; None where something is gone, or lies on a server."""
    adapters: list[str] = []
    found: StageView | None = stage
    while found is not None:
        if found.directory is None:
            return None
        if not (found.directory / "adapter_config.json").is_file():
            return Loading(str(found.directory), tuple(reversed(adapters)))
        adapters.append(str(found.directory))
        name = _below(found)
        found = run.stage(name)
    entry = _entry(run, name)
    engine = entry.get("engine")
    kind = engine.get("kind") if isinstance(engine, Mapping) else None
    path = entry.get("model_name_or_path")
    is_served = settings_class(kind).is_served() and not (engine or {}).get("adapters")
    if not isinstance(path, str) or is_served:
        return None
    local = find_resource(path)
    revision = entry.get("revision") if local is None else None
    dtype = str(entry.get("dtype") or "auto")
    return Loading(str(local or path), tuple(reversed(adapters)), revision, dtype)


def _entry(run: RunView, name: str) -> Mapping[str, Any]:
    """What the pipeline's file says of a model."""
    models = run.settings.get("models")
    entry = models.get(name) if isinstance(models, Mapping) else None
    return entry if isinstance(entry, Mapping) else {}
