"""Runs that there are already, as a sweep: what their settings differ in tells them apart.

Nothing is pooled silently: runs of different settings, data, models or versions become different
settings of the sweep, by what their artifacts' manifests say; a run that counts for nothing is
named with its reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_distill.digests import canonical_json
from llm_distill.errors import WorkspaceError
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.record import RunRecord, read_run, runs_of
from llm_distill.sweeps.measure import RunMeasured, measure
from llm_distill.sweeps.outcomes import Outcome, SweepFile

STAGES = "stages that ran"


@dataclass(frozen=True)
class _Found:
    record: RunRecord
    measured: RunMeasured
    leaves: dict[str, Any]


def sweep_of_runs(
    names: Sequence[str],
    workspace: Workspace,
    seeds: Sequence[int] = (),
    profile: str | None = None,
) -> tuple[SweepFile, list[str]]:
    """The runs of a pipeline, or the named ones, and what was left out and why.

    Args:
        names: A pipeline's name (all of its runs), or `pipeline/time`.
        workspace: Where they are.
        seeds: Only these; all by default.
        profile: Only runs with it, "" for those without one; all by default.

    Raises:
        WorkspaceError: there is no such run, they are of several pipelines, or nothing is left.
    """
    records = {r.name: r for name in names for r in _records(name, workspace)}
    pipelines = {name.partition("/")[0] for name in records}
    if len(pipelines) > 1:
        raise WorkspaceError(f"--runs: a sweep is of one pipeline; named are {sorted(pipelines)}")
    left_out: list[str] = []
    found: list[_Found] = []
    for record in sorted(records.values(), key=lambda r: r.started, reverse=True):
        if (seeds and record.seed not in seeds) or profile not in (None, record.profile or ""):
            continue
        why = None
        if record.state != "done":
            why = f"it is {record.state}"
        else:
            measured = measure(record, workspace)
            if not measured.figures:
                gone = f"; gone: {', '.join(measured.missing)}" if measured.missing else ""
                why = f"nothing that it measured is there{gone}"
            else:
                found.append(_Found(record, measured, dict(_leaves(measured.recipe))))
        if why is not None:
            left_out.append(f"{record.name} (seed {record.seed}): {why}")
    if not found:
        raise WorkspaceError(
            f"no finished run of '{', '.join(names)}' with figures in {workspace.runs}"
            + "".join(f"\n  {line}" for line in left_out)
        )
    (pipeline,) = pipelines
    return _file(pipeline, found, left_out), left_out


def _file(pipeline: str, found: Sequence[_Found], left_out: list[str]) -> SweepFile:
    places = _places(found)
    profiles = {each.record.profile for each in found}
    file = SweepFile(
        pipeline=pipeline,
        profile=profiles.pop() if len(profiles) == 1 else None,
        places=places,
    )
    for each in found:  # the newest first
        record, measured = each.record, each.measured
        values = {place: each.leaves.get(place) for place in places}
        outcome = Outcome(
            settings=values,
            seed=record.seed,
            state="done",
            run=record.name,
            recipe=measured.recipe_digest,
            started=record.started,
            seconds=sum(stage.seconds for stage in record.stages.values()),
            figures=tuple(measured.figures),
        )
        known = file.find(outcome.setting, outcome.seed)
        if known is None:
            file.put(outcome, measured.recipe, measured.items)
        elif {f.key: f.value for f in known.figures} != {f.key: f.value for f in outcome.figures}:
            left_out.append(
                f"{record.name} (seed {record.seed}): {known.run} has the same settings and seed, "
                "and is newer; their figures differ"
            )
    begun: dict[str, float] = {}
    for run in file.runs:
        begun[run.setting] = min(run.started, begun.get(run.setting, run.started))
    file.runs.sort(key=lambda run: (begun[run.setting], run.seed))
    return file


def _records(name: str, workspace: Workspace) -> Iterator[RunRecord]:
    if "/" in name:
        yield read_run(workspace, name)
        return
    found = list(runs_of(workspace, name))
    if not found:
        read_run(workspace, name)  # says which there are
    yield from found


def _places(found: Sequence[_Found]) -> tuple[str, ...]:
    """What the runs differ in. What only some of them have counts if nothing else differs."""
    in_all = [name for name in found[0].leaves if all(name in each.leaves for each in found)]
    stages = set.intersection(*(set(each.measured.recipe) for each in found))
    anywhere = dict.fromkeys(name for each in found for name in each.leaves)
    names = [name for name in anywhere if name in in_all or _stage_of(name) in stages]
    differ = [
        name for name in names if len({canonical_json(each.leaves.get(name)) for each in found}) > 1
    ]
    told_apart: dict[str, set[str]] = {}
    for each in found:
        values = canonical_json([each.leaves.get(name) for name in differ])
        told_apart.setdefault(values, set()).add(canonical_json(sorted(each.measured.recipe)))
    if any(len(of) > 1 for of in told_apart.values()):
        differ.append(STAGES)
        for each in found:
            each.leaves[STAGES] = ", ".join(each.measured.recipe)
    return tuple(differ)


def _stage_of(leaf: str) -> str | None:
    section, _, rest = leaf.partition(".")
    return rest.partition(".")[0].partition(" ")[0] if section == "stages" else None


def _leaves(recipe: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(`stages.x.learning_rate`, 1e-5), (`stages.x version`, 4), (`models.student`, digest)."""
    for stage, of in recipe.items():
        where = f"stages.{stage}"
        yield f"{where} kind", of.get("stage")
        yield f"{where} version", of.get("version")
        yield from _flat(of.get("settings", {}), where)
        for part in ("templates", "sources"):
            for name, digest in of.get(part, {}).items():
                yield f"{where} {part.removesuffix('s')} {name}", _short(digest)
        for name, identity in of.get("models", {}).items():
            if isinstance(identity, Mapping) and "weights" in identity:
                yield f"models.{name}", _short(identity["weights"])


def _flat(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{place}.{name}")
    else:
        yield place, value


def _short(digest: Any) -> Any:
    return digest[:12] if isinstance(digest, str) else canonical_json(digest)[:60]
