"""Writes the report of a run, or of several, or finds an earlier one that says the same."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from llm_distill.errors import ConfigError, WorkspaceError
from llm_distill.report.collect import collect
from llm_distill.report.page import render
from llm_distill.report.several import REPORT, render_several
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.disk import disk_explained, write_durably
from llm_distill.runtime.record import RunRecord, runs_of

COMPARED = "compared.html"
LOOKED_AT = 20
"""How many runs back to look for an equal report."""


def write_report(record: RunRecord, workspace: Workspace, output: Path | None = None) -> Path:
    """Write the report on what there is of the run.

    Args:
        record: The run.
        workspace: Where its artifacts are.
        output: The file; `report.html` in the run's folder unless given.

    Returns:
        The file.

    Raises:
        WorkspaceError: It cannot be written; an older report is unchanged.
    """
    path = _place(output or record.directory / REPORT)
    _write(path, render(collect(record, workspace), path.parent))
    return path


def write_compared(
    records: Sequence[RunRecord], workspace: Workspace, output: Path | None = None
) -> Path:
    """Write a page on several runs, as `write_report` does; `compared.html` beside their folders.

    Raises:
        ConfigError: One of them is named twice.
    """
    names = [record.name for record in records]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"report: {twice} is named twice; name runs that differ")
    path = _place(output or workspace.runs / COMPARED)
    views = [collect(record, workspace) for record in records]
    _write(path, render_several(views, path.parent))
    return path


def _place(path: Path) -> Path:
    if path.is_dir():
        raise WorkspaceError(
            f"the report: {path} is a folder; name a file, such as {path / REPORT}"
        )
    if not path.parent.is_dir():
        raise WorkspaceError(f"the report: there is no folder {path.parent}; make it first")
    return path


def _write(path: Path, page: str) -> None:
    # A lone surrogate, such as in a file's name in an error message, cannot be written.
    page = page.encode("utf-8", "replace").decode("utf-8")
    with disk_explained(path.parent, "the report: "):
        write_durably(path, page)


def equal_report(record: RunRecord, workspace: Workspace) -> Path | None:
    """The newest earlier report of a run with the same settings and artifacts, if all was reused.

    Drawing takes longer than finding out that nothing has changed.
    """
    if any(stage.state != "reused" for stage in record.stages.values()):
        return None
    pipeline = record.name.partition("/")[0]
    for other in islice(runs_of(workspace, pipeline), LOOKED_AT):
        report = other.directory / REPORT
        if other.name != record.name and report.is_file() and _says_the_same(record, other):
            return report
    return None


def _says_the_same(record: RunRecord, other: RunRecord) -> bool:
    if other.state != "done":
        return False
    mine = {name: stage.artifact for name, stage in record.stages.items()}
    theirs = {name: stage.artifact for name, stage in other.stages.items()}
    settings = [run.directory / "pipeline.yaml" for run in (record, other)]
    try:
        return mine == theirs and settings[0].read_bytes() == settings[1].read_bytes()
    except OSError:
        return False
