"""Walks a smaller pipeline in a workspace of its own, stage by stage.

What models write goes into the completion store of the real workspace: a run asks the same, so
that nothing is paid for twice, here or there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from llm_distill.engines.budget import Budget
from llm_distill.engines.openai.settings import OpenAISettings
from llm_distill.errors import DataError, LLMDistillError, counted
from llm_distill.pipeline.graph import base_model
from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.preview.smaller import Smaller, beside_name, without
from llm_distill.runtime.artifact import Artifact, Workspace
from llm_distill.runtime.disk import disk_explained
from llm_distill.runtime.execute import Display, Run
from llm_distill.runtime.plan import Selection, decide, plan
from llm_distill.runtime.preflight import preflight
from llm_distill.runtime.record import RunRecord, StageRecord
from llm_distill.runtime.resolve import Resolver
from llm_distill.runtime.runner import carry_out, named
from llm_distill.stage import Stage, rows_of
from llm_distill.stages.generate import Generate
from llm_distill.stages.load_dataset import LoadDataset
from llm_distill.tracking import TrackedRun

FOLDER = "previews"


@dataclass(frozen=True)
class Walked:
    """A stage that was walked, or passed over.

    artifact: its rows; None where it was passed over, and `why` says so.
    rows: the artifact of its `rows`, if it has such. written: of a `generate` that parses or
        verifies, what the model wrote, before.
    notes: what is other than in the file.
    """

    name: str
    stage: Stage
    notes: Sequence[str]
    why: str = ""
    artifact: Artifact | None = None
    rows: Artifact | None = None
    written: Artifact | None = None


@dataclass
class Walk:
    """Goes through the stages. real: the workspace of the pipeline's runs.

    found: what became of the stages so far, which an error leaves there.
    """

    smaller: Smaller
    original: PipelineConfig
    real: Workspace
    display: Display
    budget: Budget
    found: list[Walked] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.workspace = Workspace(self.real.root / FOLDER)
        self.workspace.completions = self.real.completions
        self.order = {name: 2 * index for index, name in enumerate(self.original.stages)}
        self.order |= {beside_name(n, "beside"): at + 1 for n, at in self.order.items()}

    def run(self) -> RunRecord:
        """Walk all stages.

        Raises:
            LLMDistillError: a model cannot be loaded or asked, or a dataset cannot be read. A stage
                that cannot work with so few rows is passed over.
        """
        pipeline, workspace = self.smaller.pipeline, self.workspace
        self.real.prepare()
        workspace.prepare()
        names = list(pipeline.stages)
        resolver = Resolver(pipeline, lambda: workspace.first_run(pipeline.name))
        resolver.learn_commits(names)
        self._check_before(resolver)
        record = RunRecord.begin(workspace, pipeline, names)
        tracked = TrackedRun(pipeline.name, record.name, workspace.tracking)
        run = Run(resolver, workspace, record, self.display, self.budget, tracked)
        self.display.starts(record)
        for name, stage in self.original.stages.items():
            if name in self.smaller.passed_over:
                why = self.smaller.passed_over[name]
                self.found.append(Walked(name, stage, (), why))
        with record.ended():
            for name in names:
                run = self._one(name, run)
        self._in_order()
        record.state = "done"
        record.save()
        return record

    def _one(self, name: str, run: Run) -> Run:
        """Walk a stage; what is to be walked after it."""
        resolver, record = run.resolver, run.record
        stage = resolver.pipeline.stages[name]
        absent = [target for target in rows_of(stage) if target not in resolver.ready]
        if absent:
            self._pass_over(name, stage, f"it reads '{absent[0]}', which was passed over")
            return run
        try:
            with record.logging(name), named(name), disk_explained(run.workspace.root):
                self._say_what_is_asked(name, stage, resolver)
                artifact, state, why = carry_out(name, run, retry_failed=True)
        except DataError as error:
            if isinstance(stage, LoadDataset):
                record.stopped(error, name)
                raise
            reason = str(error).removeprefix(f"stage '{name}': ")
            self._pass_over(name, stage, reason)
            changed = without(resolver.pipeline, name)
            return run if changed is None else replace(run, resolver=_over(resolver, changed))
        except BaseException as error:
            record.stopped(error, name)
            raise
        resolver.ready[name] = artifact
        record.used(name, artifact, state, artifact.manifest.seconds, why)
        if name in self.order:
            written = self._written(name, stage, artifact, run)
            above = getattr(stage, "rows", None)  # a mixture has several
            rows = resolver.ready.get(above) if isinstance(above, str) else None
            notes = self.smaller.notes.get(name, ())
            self.found.append(Walked(name, stage, notes, "", artifact, rows, written))
        return run

    def _pass_over(self, name: str, stage: Stage, why: str) -> None:
        if name in self.original.stages:
            notes = self.smaller.notes.get(name, ())
            self.found.append(Walked(name, stage, notes, why))

    def _in_order(self) -> None:
        """As in the file; what is read beside a dataset comes after it."""
        self.found.sort(key=lambda each: self.order[each.name])

    def _written(self, name: str, stage: Stage, made: Artifact, run: Run) -> Artifact | None:
        """What the model wrote where not all of it could be read: as it was stored just now."""
        if not (made.manifest.dropped and isinstance(stage, Generate)):
            return None
        if stage.parse is None and stage.verify is None:
            return None
        plain = stage.model_copy(update={"parse": None, "verify": None})
        also = beside_name(name, "as_written")
        pipeline = run.resolver.pipeline
        resolver = _over(run.resolver, replace(pipeline, stages={**pipeline.stages, also: plain}))
        run.record.stages[also] = StageRecord()
        with suppress(LLMDistillError), run.record.logging(also):
            return carry_out(also, replace(run, resolver=resolver))[0]
        return None

    def _check_before(self, resolver: Resolver) -> None:
        """Models that are not there, and devices: found before the first request."""
        own = replace(resolver, ready={})
        pipeline = resolver.pipeline
        decisions = list(plan(pipeline, self.workspace, Selection(), resolver=own))
        found = preflight(decisions, own, self.workspace, counts_rows=False, says=self.display.says)
        refused = found.error(pipeline)
        if refused is not None:
            raise refused
        for warning in found.warnings:
            self.display.says(warning)

    def _say_what_is_asked(self, name: str, stage: Stage, resolver: Resolver) -> None:
        """Of a stage that is not there already."""
        if decide(name, resolver, self.workspace, retry_failed=True).artifact is not None:
            return
        for model, n, where in _asked_of_servers(stage, resolver):
            self.display.says(f"{name}: at most {counted(n, 'request')} to '{model}' at {where}")


def _asked_of_servers(stage: Stage, resolver: Resolver) -> Iterator[tuple[str, int, str]]:
    """(model, requests at most, address) of a stage whose inputs are ready."""
    counts = {name: resolver.ready[name].manifest.rows_out for name in rows_of(stage)}
    asked = None
    with suppress(TypeError, ValueError):
        asked = stage.most_asked(counts)
    for model, (n, _) in (asked or {}).items():
        engine = resolver.pipeline.models[base_model(model, resolver.pipeline.stages)].engine
        if isinstance(engine, OpenAISettings):
            yield model, n, " and ".join(engine.addresses())


def _over(resolver: Resolver, pipeline: PipelineConfig) -> Resolver:
    """The resolver, with what it knows, for a pipeline without some stages."""
    return replace(resolver, pipeline=pipeline)
