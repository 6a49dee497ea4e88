"""Each stage of a run by itself: what it read and gave, its settings, its log."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from llm_distill.report.collect import RunView, StageView
from llm_distill.report.logs import Log


@dataclass(frozen=True)
class ShownStage:
    """A stage with all that there is to say.

    Attributes:
        name: Of its place in the page.
        reads: Names of the stages that it reads.
        readers: Names of the stages that read it.
        columns: Those of its rows; those that no input has come first in `added`.
        settings: All that it ran with, as YAML; of one that has not run those in the file.
        log: The end of its log; None without one.
        log_address: Where the whole log is, seen from the page.
    """

    view: StageView
    name: str
    reads: tuple[str, ...]
    readers: tuple[str, ...]
    added: tuple[str, ...]
    columns: tuple[str, ...]
    settings: str
    log: Log | None = None
    log_address: str = ""


def stages_shown(run: RunView, logs: Mapping[str, Log], folder: Path) -> tuple[ShownStage, ...]:
    """folder: where the page will lie."""
    views = {stage.name: stage for stage in run.stages}
    shown = []
    for number, stage in enumerate(run.stages, 1):
        inherited = {c for name in stage.inputs if name in views for c in views[name].columns}
        log = logs.get(stage.name)
        shown.append(
            ShownStage(
                stage,
                f"stage-{number}",
                tuple(name for name in stage.inputs if name in views),
                tuple(other.name for other in run.stages if stage.name in other.inputs),
                tuple(c for c in _columns(stage) if c not in inherited),
                tuple(c for c in _columns(stage) if c in inherited),
                _settings(stage),
                log,
                "" if log is None else log.address(folder),
            )
        )
    return tuple(shown)


def _columns(stage: StageView) -> Collection[str]:
    return (stage.manifest and stage.manifest.features) or ()


def _settings(stage: StageView) -> str:
    """Without those that are not set."""
    given: Mapping[str, Any] = stage.manifest.settings if stage.manifest else {}
    stated = {name: value for name, value in (given or stage.stated).items() if value is not None}
    if not stated:
        return ""
    try:
        return str(yaml.safe_dump(stated, sort_keys=False, allow_unicode=True, width=100)).strip()
    except yaml.YAMLError:  # a value that another package has put there
        return repr(stated)
