"""For each stage: reuse or run, and why. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from llm_distill.digests import fingerprint
from llm_distill.errors import ConfigError, counted
from llm_distill.integrity import DamagedError
from llm_distill.manifest import Manifest
from llm_distill.pipeline.graph import dependants, upstream
from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.runtime.artifact import Artifact, Workspace
from llm_distill.runtime.fingerprint import differences
from llm_distill.runtime.loops import Ended, settle
from llm_distill.runtime.resolve import Resolver


@dataclass(frozen=True)
class Decision:
    """What is to be done with a stage.

    identity and digest: None where they depend on a stage that has yet to run.
    artifact: what is reused. damage: set where an artifact must be moved aside first.
    last: what the stage measured the last time, whatever has changed; once it is about to run.
    """

    name: str
    action: Literal["reuse", "run"]
    why: str
    identity: dict[str, Any] | None = None
    digest: str | None = None
    artifact: Artifact | None = None
    damage: str | None = None
    last: Manifest | None = None


@dataclass(frozen=True)
class Selection:
    """Which stages a command is about: `--from`, `--until`, `--force` and `--retry-failed`."""

    start: str | None = None
    until: str | None = None
    force: tuple[str, ...] = ()
    retry_failed: bool = False

    def stages(self, pipeline: PipelineConfig) -> list[str]:
        """The stages to go through, in order.

        Raises:
            ConfigError: a name that is not a stage's, `--from` after `--until`, or a `--force`
                outside of both, which would do nothing.
        """
        until = None if self.until is None else pipeline.last_round(self.until)
        named = [("--from", self.start), ("--until", until)]
        for option, name in [*named, *(("--force", name) for name in self.force)]:
            if name is not None and name not in pipeline.stages:
                raise ConfigError(f"{option} {name}: {pipeline.why_no_stage(name)}")
        names = list(pipeline.stages)
        end = names.index(until) + 1 if until else len(names)
        if self.start and names.index(self.start) >= end:
            raise ConfigError(f"--from {self.start} comes after --until {self.until}")
        begin = names.index(self.start) if self.start else 0
        for name in self.force:
            if names.index(name) < begin:
                where = f"comes before --from {self.start}"
            elif names.index(name) >= end:
                where = f"comes after --until {self.until}"
            else:
                continue
            raise ConfigError(f"--force {name} {where} and would not be run; leave one of them out")
        return names[:end]

    def forced(self, pipeline: PipelineConfig) -> set[str]:
        """Also what depends on them; a round that its repeat does not come to is nobody's."""
        named = [name for name in self.force if name in pipeline.stages]
        return {n for name in named for n in dependants(name, pipeline.stages)}

    def still_forced(self, pipeline: PipelineConfig, finished: Collection[str]) -> list[str]:
        """What to force so as to continue a run that has finished these stages."""
        left = self.forced(pipeline).intersection(self.stages(pipeline)).difference(finished)
        implied = {n for name in left for n in dependants(name, pipeline.stages) if n != name}
        return [name for name in pipeline.stages if name in left - implied]

    def must_be_ready(self, pipeline: PipelineConfig) -> set[str]:
        """The stages before `--from`, which are not to be executed."""
        names = list(pipeline.stages)
        return set(names[: names.index(self.start)]) if self.start else set()


def planning(pipeline: PipelineConfig, workspace: Workspace) -> Resolver:
    """A resolver that notes nothing in the workspace."""
    return Resolver(pipeline, lambda: workspace.first_run(pipeline.name, note=False))


def decide(
    name: str,
    resolver: Resolver,
    workspace: Workspace,
    *,
    forced: bool = False,
    may_run: bool = True,
    retry_failed: bool = False,
    read_files: bool = True,
) -> Decision:
    """Reuse or run one stage whose inputs are ready.

    retry_failed: run it again where a server did not answer all of its requests.
    may_run: False for a stage before `--from`, whose artifact must be there.
    read_files: whether to look for damage in the artifact, and not only at its sizes.
    """
    identity = resolver.identity(name)
    digest = fingerprint(identity)
    try:
        artifact = workspace.find(workspace.address(name, digest), read_files=read_files)
    except DamagedError as damaged:
        why = f"its artifact is damaged ({damaged})"
        return Decision(name, "run", why, identity, digest, damage=str(damaged))
    if forced:
        return Decision(name, "run", "forced", identity, digest)
    if artifact is not None and may_run and resolver.pipeline.stages[name].is_repeated:
        return Decision(name, "run", "it runs every time", identity, digest)
    if artifact is not None and may_run and retry_failed and artifact.manifest.failed:
        why = f"{counted(artifact.manifest.failed, 'answer')} failed"
        return Decision(name, "run", why, identity, digest)
    if artifact is not None:
        return Decision(name, "reuse", "nothing has changed", identity, digest, artifact)
    if workspace.pruned_place(workspace.address(name, digest)).exists():
        return Decision(name, "run", "its artifact was pruned", identity, digest)
    return Decision(name, "run", _why(name, identity, workspace), identity, digest)


def plan(
    pipeline: PipelineConfig,
    workspace: Workspace,
    selection: Selection,
    *,
    resolver: Resolver | None = None,
    read_files: bool = True,
    ended: Callable[[Ended], None] = lambda found: None,
) -> Iterator[Decision]:
    """Each selected stage's decision, as `run` would take it now.

    resolver: gets the artifacts that are reused, and its pipeline the ends of repeats that these
    show. ended: is told of them. read_files: as `decide` takes it.
    """
    if resolver is None:
        resolver = planning(pipeline, workspace)
    names = selection.stages(pipeline)  # first, as it knows what cannot be
    forced = selection.forced(pipeline)
    must_be_ready = selection.must_be_ready(pipeline)
    to_run: set[str] = set()
    for name in names:
        pipeline = resolver.pipeline
        if name not in pipeline.stages:
            continue  # of a round that its repeat does not come to
        waiting = [n for n in upstream(pipeline.stages[name], pipeline.stages) if n in to_run]
        waiting += {e.block.name: 0 for (by, _), e in pipeline.ends.items() if by == name}
        if waiting:
            to_run.add(name)
            yield Decision(name, "run", f"upstream {' and '.join(waiting)} will run")
            continue
        may_run = name not in must_be_ready
        decision = decide(
            name,
            resolver,
            workspace,
            forced=name in forced,
            may_run=may_run,
            retry_failed=selection.retry_failed,
            read_files=read_files,
        )
        if decision.artifact is not None:
            resolver.ready[name] = decision.artifact
            if (found := settle(name, resolver)) is not None:
                ended(found)
                forced = selection.forced(resolver.pipeline)
        else:
            to_run.add(name)
        yield decision


def _why(name: str, identity: dict[str, Any], workspace: Workspace) -> str:
    before = workspace.latest(name)
    if before is None:
        return "it has never run in this workspace"
    changes = differences(before.identity, identity)
    if not changes:
        return "its artifact is gone"
    shown = "; ".join(changes[:3])
    return shown + (f"; and {len(changes) - 3} more" if len(changes) > 3 else "")
