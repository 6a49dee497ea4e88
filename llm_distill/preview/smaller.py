"""A pipeline with few rows: what is walked in its place, and what is said of each stage.

    seeds           limit 3
    seeds_beside    limit 100: read where rows are examples, or what others are compared with
    drafts          n 4 in place of 20; of 'seeds', and examples of 'seeds_beside'
    trained         a training: passed over, and what reads it gets its untrained base

Requests stay as they would be asked, so what is answered here is known to the run; where examples
are drawn from more rows than are read here, the run draws others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from llm_distill.errors import ConfigError, counted
from llm_distill.pipeline.graph import base_model, upstream
from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.preview.counts import cut, divided
from llm_distill.preview.references import with_reference, with_references
from llm_distill.stage import Stage, references, rows_of
from llm_distill.stages.generate import Generate
from llm_distill.stages.load_dataset import LoadDataset
from llm_distill.stages.select import Select
from llm_distill.stages.split import Split

BESIDE = 100
"""Rows of a dataset that others are compared with, that are shown as examples, or divided."""
OTHER = "_other"


@dataclass(frozen=True)
class Smaller:
    """pipeline: the stages that are walked, in order.

    notes: by stage, what is other than in the file. passed_over: stages that are not walked, and
        why.
    """

    pipeline: PipelineConfig
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    passed_over: Mapping[str, str] = field(default_factory=dict)


def beside_name(name: str, what: str) -> str:
    """A name for a stage that stands beside another, of the same round of a `repeat`."""
    own, at, number = name.partition("@")
    return f"{own}_{what}{at}{number}"


def last_stage(pipeline: PipelineConfig) -> str:
    """The last one with rows before the first training, or of all.

    Raises:
        ConfigError: the pipeline begins with a training.
    """
    last = None
    for name, stage in pipeline.stages.items():
        if stage.output == "model":
            break
        last = name
    if last is None:
        raise ConfigError(f"{pipeline.source}: its first stage is a training: there are no rows")
    return last


def smaller(pipeline: PipelineConfig, n: int, stage: str | None) -> Smaller:
    """What is walked for the first `n` rows.

    stage: walked with what it is made of; None for all stages before the first training.

    Raises:
        ConfigError: there is no such stage, or it gives no rows.
    """
    stages = pipeline.stages
    if stage is not None and stage not in stages:
        raise ConfigError(f"--stage {stage}: {pipeline.why_no_stage(stage)}")
    if stage is not None and stages[stage].output == "model":
        raise ConfigError(
            f"--stage {stage}: it is a training and gives no rows; name the stage that it reads, "
            f"{_or(rows_of(stages[stage]))}, or see what it reads with --tokens {stage}"
        )
    names = list(stages)
    wanted = names[: names.index(last_stage(pipeline)) + 1] if stage is None else [stage]
    kept = _with_inputs(wanted, stages)
    passed_over: dict[str, str] = {}
    notes: dict[str, list[str]] = {}
    found: dict[str, Stage] = {}
    beside = _read_beside(kept, stages)
    for name in (name for name in names if name in kept):
        own = stages[name]
        why = _why_not(own)
        if why is not None:
            passed_over[name] = why
            continue
        said = notes.setdefault(name, [])
        if isinstance(own, LoadDataset):
            found[name] = _fewer(own, n if name not in beside or beside[name] else BESIDE, said)
            if beside.get(name):
                more = beside_name(name, "beside")
                found[more] = _fewer(own, BESIDE, notes.setdefault(more, []))
                notes[more].append("read as examples, as what others are compared with, or divided")
            continue
        own = _untrained(own, stages, said)
        own = _compared_with_more(own, stages, beside)
        if isinstance(own, Split):
            whole = beside_name(name, "whole")
            found[whole] = divided(own)
            own = Select(stage="select", rows=whole, n=n, min_share=0.0)
            said.append(f"the first {counted(n, 'row')} of this part")
        found[name] = cut(own, n, _asks_before(name, stages), said)
    return Smaller(_replaced(pipeline, found), notes, passed_over)


def _with_inputs(wanted: Sequence[str], stages: Mapping[str, Stage]) -> set[str]:
    """The stages and those whose rows they need; of a trained model only itself, to be named."""
    kept, left = set(wanted), list(wanted)
    while left:
        name = left.pop()
        if stages[name].output == "model":
            continue
        for above in upstream(stages[name], stages):
            if above not in kept:
                kept.add(above)
                left.append(above)
    return kept


def _why_not(stage: Stage) -> str | None:
    if stage.output == "model":
        return "a training; what reads it gets its untrained base"
    if stage.is_repeated:
        return "it changes something outside the workspace"
    if stage.stage == "evaluate_lm_eval":
        return "it takes whole benchmarks"
    return None


def _read_beside(kept: set[str], stages: Mapping[str, Stage]) -> dict[str, bool]:
    """Datasets that are read where their size costs nothing; and whether elsewhere as well."""
    beside: set[str] = set()
    mainly: set[str] = set()
    for name in kept:
        for place, target, kind in references(stages[name]):
            if kind == "rows" and isinstance(stages.get(target), LoadDataset):
                (beside if _costs_nothing(stages[name], place) else mainly).add(target)
    return {name: name in mainly for name in beside}


def _costs_nothing(stage: Stage, place: str) -> bool:
    """Whether more rows there are neither passed on nor asked about."""
    if place == "rows":
        return isinstance(stage, Split)  # few rows may leave a part without any
    apart = with_reference(stage, place, OTHER)  # the same rows may be named in another place too
    few = dict.fromkeys(rows_of(apart), 10)
    try:
        counts = [apart.most_asked(rows) for rows in (few, {**few, OTHER: 20})]
    except (TypeError, ValueError, ArithmeticError):
        return False
    return counts[0] is not None and counts[0] == counts[1] and place not in ("items", "profile")


def _fewer(stage: LoadDataset, n: int, said: list[str]) -> LoadDataset:
    if stage.limit is not None and stage.limit <= n:
        return stage
    said.append(f"at most its first {counted(n, 'row')}")
    return stage.model_copy(update={"limit": n})


def _untrained(stage: Stage, stages: Mapping[str, Stage], said: list[str]) -> Stage:
    """The stage with the base of each trained model that it names."""
    trained = {
        target: base_model(target, stages)
        for _, target, kind in references(stage)
        if kind == "model" and target in stages
    }
    for name, base in trained.items():
        said.append(f"'{base}', which is not trained, in place of '{name}'")
    return with_references(stage, trained)


def _compared_with_more(
    stage: Stage, stages: Mapping[str, Stage], beside: Mapping[str, bool]
) -> Stage:
    for place, target, kind in references(stage):
        if kind == "rows" and beside.get(target) and _costs_nothing(stage, place):
            stage = with_reference(stage, place, beside_name(target, "beside"))
    return stage


def _asks_before(name: str, stages: Mapping[str, Stage]) -> bool:
    """Whether a stage's rows are candidates already."""
    reached = _with_inputs([name], stages) - {name}
    return any(
        isinstance(stages[above], Generate) and stages[above].output == "rows"
        for above in reached
        if _is_above(above, name, stages)
    )


def _is_above(above: str, name: str, stages: Mapping[str, Stage]) -> bool:
    """Whether its rows are passed on to a stage, from `rows` to `rows`."""
    rows = getattr(stages[name], "rows", None)
    named = [rows] if isinstance(rows, str) else rows or ()
    return any(
        each in stages and (each == above or _is_above(above, each, stages)) for each in named
    )


def without(pipeline: PipelineConfig, name: str) -> PipelineConfig | None:
    """The pipeline where what reads this stage reads its `rows` instead; None where none can.

    Only a stage that passes its rows on, as a selection does, can be left out so.
    """
    stage = pipeline.stages[name]
    rows = getattr(stage, "rows", None)
    if type(stage).output_columns is not Stage.output_columns or not isinstance(rows, str):
        return None
    stages = {
        other: with_references(own, {name: rows})
        for other, own in pipeline.stages.items()
        if other != name
    }
    return _replaced(pipeline, stages)


def _replaced(pipeline: PipelineConfig, stages: dict[str, Stage]) -> PipelineConfig:
    return replace(pipeline, stages=stages, report_to="none")


def _or(names: Sequence[str]) -> str:
    return " or ".join(f"'{name}'" for name in names)
