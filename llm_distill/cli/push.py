"""What `push` does: a stage's artifact of a run, to a repository on the Hub."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import yaml
from rich.markup import escape

from llm_distill.cli.display import console, say
from llm_distill.digests import fingerprint
from llm_distill.errors import ConfigError, WorkspaceError, counted
from llm_distill.evaluation.results import Results
from llm_distill.publish.cards import Origin
from llm_distill.publish.licenses import check_license
from llm_distill.publish.lineage import Lineage, quoted_manifest, read_lineage
from llm_distill.publish.model_card import names_of
from llm_distill.publish.package import Package, package
from llm_distill.publish.push import check_can_push, check_repo_id, push
from llm_distill.publish.recipe import is_pipeline
from llm_distill.rows.conversation_forms import Form
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.finished import open_run
from llm_distill.runtime.record import RunRecord

if TYPE_CHECKING:
    from rich.console import Console


def push_command(
    run: str,
    stage: str,
    repo_id: str,
    root: Path,
    *,
    public: bool,
    license_id: str | None,
    merge: bool,
    dry_run: bool,
    revision: str | None = None,
    conversation_form: Form | None = None,
) -> None:
    """Push, or with `dry_run` show the files, the card and the warnings; that sends nothing."""
    check_repo_id(repo_id)
    if license_id is not None:
        check_license(license_id)
    out = console()
    finished = open_run(run, root, says=say)
    workspace, record = finished.workspace, finished.record
    out.print(f"from {escape(record.described)}")
    artifact = finished.artifact(stage, to_do="push", read_files=True)
    if merge and not artifact.manifest.is_model:
        raise ConfigError(f"--merge: stage '{stage}' gives rows, not an adapter")
    if conversation_form is not None and artifact.manifest.is_model:
        raise ConfigError(f"--conversation-form: stage '{stage}' gives a model, not rows")
    if not dry_run:
        check_can_push()
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    with TemporaryDirectory(prefix="llm-distill-") as folder:
        merged = Path(folder) / "model" if merge else None
        if merged is not None:
            from llm_distill.training.weights import merge_adapters

            merge_adapters(finished.model(stage), merged)
        lineage = read_lineage(artifact.path)
        evaluations = tuple(_evaluations(workspace, record, lineage))
        origin = Origin(lineage, evaluations, _pipeline(record))
        packed = package(
            origin, repo_id, license_id, Path(folder) / "rows", merged, conversation_form
        )
        _show(packed, repo_id, out, dry_run=dry_run)
        if dry_run:
            return
        message = f"Push {record.name}, stage {stage}, with llm-distill"
        pushed = push(packed, repo_id, private=not public, message=message, revision=revision)
    out.print(f"pushed to {escape(pushed.url)} (commit {pushed.commit[:12]})")


def _show(packed: Package, repo_id: str, out: Console, *, dry_run: bool) -> None:
    sizes = packed.sizes()
    verb = "would push" if dry_run else "pushing"
    files, size = counted(len(sizes), "file"), counted(sum(sizes.values()), "byte")
    out.print(f"{verb} {files}, {size}, to {packed.repo_type} {escape(repo_id)}")
    if dry_run:
        for name, n_bytes in sizes.items():
            out.print(f"{n_bytes:>16,}  {name}", markup=False)
    for warning in packed.warnings:
        out.print(f"  [yellow]warning:[/yellow] {escape(warning)}")
    if dry_run:
        out.print("\nREADME.md:\n")
        out.print(packed.card, markup=False)


def _evaluations(workspace: Workspace, record: RunRecord, lineage: Lineage) -> list[Lineage]:
    """The run's evaluations of the model."""
    if not lineage.manifest.is_model:
        return []
    names, found = names_of(lineage), []
    for stage in record.stages.values():
        manifest = quoted_manifest(workspace.path(stage.artifact)) if stage.artifact else None
        measured = Results.from_metrics(manifest.metrics if manifest else {})
        if stage.artifact and measured.models & names:
            found.append(read_lineage(workspace.path(stage.artifact)))
    return found


def _pipeline(record: RunRecord) -> dict[str, Any]:
    path = record.directory / "pipeline.yaml"
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise WorkspaceError(f"{path} cannot be read ({error}); name another run") from error
    if record.settings_digest not in (None, fingerprint(text)) or not is_pipeline(values):
        raise WorkspaceError(
            f"{path} is not as the run wrote it, and the card would quote it; run the pipeline "
            "again, or name another run"
        )
    settings: dict[str, Any] = values
    return settings
