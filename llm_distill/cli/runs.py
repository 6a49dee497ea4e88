"""`llm-distill runs`: every run of a workspace, with what it gained; and `path`: a stage's folder.

Nothing heavy is imported at the top: `--help` answers at once.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llm_distill.cli.options import DEFAULT_WORKSPACE, AsJson, Run, StageName, WorkspaceDir

if TYPE_CHECKING:
    from llm_distill.evaluation.result_rows import Difference
    from llm_distill.manifest import Manifest
    from llm_distill.runtime.artifact import Workspace
    from llm_distill.runtime.record import RunRecord


def runs(
    pipeline: Annotated[
        str | None, typer.Argument(help="Only the runs of the pipeline of this name.")
    ] = None,
    as_json: AsJson = False,
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
) -> None:
    """Show the runs of a workspace: settings, state, what the exam gained, size."""
    from llm_distill.cli.display import console, make_table, say
    from llm_distill.errors import WorkspaceError, nearest, sized
    from llm_distill.runtime.artifact import Workspace
    from llm_distill.runtime.record import all_runs

    place = Workspace(workspace)
    damaged: list[str] = []
    found = list(all_runs(place, damaged.append))
    names = {_pipeline_of(record) for record in found}
    if pipeline is not None and found and pipeline not in names:
        raise WorkspaceError(f"no run of '{pipeline}' in {place.runs}; {nearest(pipeline, names)}")
    shown = [record for record in found if pipeline in (None, _pipeline_of(record))]
    seen: dict[str, Manifest | None] = {}
    described = [_described(record, place, seen) for record in shown]
    if as_json:
        typer.echo(json.dumps(described, indent=2, ensure_ascii=False))
        return
    for message in damaged:
        say(message)
    out = console()
    if not described:
        out.print(f"no run in {place.runs} yet", markup=False)
        return
    table = make_table("run", "state", "settings", "gained, in points", right=("size",))
    table.columns[0].no_wrap, table.columns[2].overflow = True, "fold"
    table.columns[3].overflow = "fold"
    for each in described:
        size = sized(each["bytes"])
        table.add_row(
            each["run"], each["state"], _written_settings(each), _written_gain(each["gained"]), size
        )
    out.print(table)


def path(run: Run, stage: StageName = None, workspace: WorkspaceDir = DEFAULT_WORKSPACE) -> None:
    """Print the folder of a stage's rows or model, alone on a line, for scripts."""
    from llm_distill.errors import ConfigError
    from llm_distill.runtime.finished import open_run

    finished = open_run(run, workspace, says=lambda message: typer.echo(message, err=True))
    if stage is None:
        stages = ", ".join(finished.record.stages)
        raise ConfigError(f"which stage of {finished.record.name}? It has {stages}")
    typer.echo(finished.artifact(stage).path.resolve())


def _pipeline_of(record: RunRecord) -> str:
    return record.name.partition("/")[0]


def _described(
    record: RunRecord, place: Workspace, seen: dict[str, Manifest | None]
) -> dict[str, Any]:
    """A run as plain values. seen: manifests that were read before, as runs share artifacts."""
    from llm_distill.manifest import read_manifest

    used = {stage.artifact for stage in record.stages.values() if stage.artifact is not None}
    for address in used - seen.keys():
        seen[address] = read_manifest(place.path(address))
    manifests = [seen[address] for address in used]
    sizes = [file.bytes for each in manifests if each for file in each.files.values()]
    stage, gained = _gained(record, seen)
    return {
        "run": record.name,
        "pipeline": _pipeline_of(record),
        "file": record.pipeline,
        "profile": record.profile,
        "seed": record.seed,
        "settings": record.assignments,
        "sweep": record.sweep,
        "started": record.started,
        "state": record.state,
        "gained": None
        if gained is None
        else {
            "exam": stage,
            "model": gained.model,
            "baseline": gained.baseline,
            "shots": gained.shots,
            "difference": gained.difference,
            "low": gained.low,
            "high": gained.high,
            "items": gained.n,
        },
        "bytes": sum(sizes),
        "folder": str(record.directory.resolve()),
    }


def _gained(
    record: RunRecord, seen: dict[str, Manifest | None]
) -> tuple[str | None, Difference | None]:
    """Of the last exam with a difference: its last model's, with the fewest worked examples."""
    from llm_distill.evaluation.results import Results

    for name, stage in reversed(record.stages.items()):
        manifest = seen.get(stage.artifact) if stage.artifact is not None else None
        rows = Results.from_metrics(manifest.metrics).differences if manifest is not None else ()
        if rows:
            last = [row for row in rows if row.model == rows[-1].model]
            return name, min(last, key=lambda row: row.shots or 0)
    return None, None


def _written_settings(described: dict[str, Any]) -> str:
    """`sweep, seed 1, profile small, stages.tuned.max_steps=2`: what tells runs apart."""
    profile = [f"profile {described['profile']}"] if described["profile"] else []
    sweep = ["sweep"] if described["sweep"] else []
    given = [text for text in described["settings"] if not text.startswith("seed=")]
    return ", ".join([*sweep, f"seed {described['seed']}", *profile, *given])


def _written_gain(gained: dict[str, Any] | None) -> str:
    """`tuned +32.0 (+25.5 to +38.5)`; nothing where no exam compared models."""
    from llm_distill.evaluation.result_rows import Figure

    if gained is None:
        return ""
    given = gained["difference"], gained["low"], gained["high"], gained["items"]
    return f"{gained['model']} {Figure({}, *given, 'points')}"
